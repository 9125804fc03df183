"""Damaged TCF files give one clear error or what they gave before: never a crash, a hang or wrong data."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks.tcf_fuzz import ALLOWED, VARIANTS, Area, Mutation, boundaries, fuzz, judge

TRUTH = {"Data/3D/000000": np.full((2, 3, 4), 13370, dtype=np.uint16), "numbers": "a"}
AREAS = [Area(100, 148, "Data/3D/000000", 24, packed=False)]


@pytest.mark.parametrize("variant", ["contiguous", "gzip", "blosc", "tiles", "new format"])
def test_a_damaged_file_is_refused_or_read_as_before(tmp_path: Path, variant: str) -> None:
    path = tmp_path / f"{variant}.TCF"
    VARIANTS[variant](path)
    outcomes = fuzz(path, mutations=120, seed=1, cuts=False)
    assert [(outcome, detail) for outcome, detail in outcomes if outcome not in ALLOWED] == []
    counts = Counter(outcome for outcome, _ in outcomes)
    # the damage was felt, and not by every file
    assert counts["refused"] > 20
    assert counts["same"] > 0


@pytest.mark.parametrize("variant", ["contiguous", "8-bit tiles"])
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, variant: str) -> None:
    path = tmp_path / f"{variant}.TCF"
    VARIANTS[variant](path)
    outcomes = fuzz(path, mutations=0, seed=1)
    assert len(outcomes) > len(boundaries(path))
    assert {outcome for outcome, _ in outcomes} == {"refused"}


@pytest.mark.parametrize(
    ("changed", "byte", "expected"),
    [
        (0, 0, "same"),
        (1, 120, "voxel"),
        (2, 120, "wrong"),  # one bit can change one voxel only
        (2, 20, "unguarded"),
        (0, 120, "same"),
    ],
)
def test_the_judge_tells_harm_from_wrong_data(changed: int, byte: int, expected: str) -> None:
    found = {key: value.copy() if isinstance(value, np.ndarray) else value for key, value in TRUTH.items()}
    image = found["Data/3D/000000"]
    assert isinstance(image, np.ndarray)
    image.flat[:changed] += 1
    assert judge(found, TRUTH, mutation=Mutation(flips=((byte, 3),)), areas=AREAS)[0] == expected


def test_the_judge_knows_refusal_and_loss() -> None:
    header = Mutation(flips=((20, 1),))
    assert judge({**TRUTH, "Data/3D/000000": None}, TRUTH, mutation=header, areas=AREAS)[0] == "refused"
    lost = np.zeros((2, 3, 4), dtype=np.uint16)
    assert judge({**TRUTH, "Data/3D/000000": lost}, TRUTH, mutation=header, areas=AREAS)[0] == "missing"
    assert judge({**TRUTH, "numbers": "b"}, TRUTH, mutation=header, areas=AREAS)[0] == "number"
