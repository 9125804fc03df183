"""TCF headers with three flipped bits in the first 4 KB (row 39): an error that names the file, or a right answer."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks.tcf_fuzz import ALLOWED, VARIANTS, Mutation, _in_children

HEADER = 4096


def damaged_headers(path: Path, *, number: int, seed: int) -> list[tuple[str, str]]:
    """What comes of files with three flipped bits in what describes them; children read them, under limits."""
    rng = np.random.default_rng(seed)
    size = min(HEADER, path.stat().st_size)
    mutations = [
        Mutation(flips=tuple((int(rng.integers(size)), int(rng.integers(8))) for _ in range(3))) for _ in range(number)
    ]
    return _in_children(path, mutations)


@pytest.mark.parametrize("variant", ["gzip", "8-bit tiles"])
def test_a_damaged_header_is_refused_or_changes_nothing(tmp_path: Path, variant: str) -> None:
    path = tmp_path / f"{variant}.TCF"
    VARIANTS[variant](path)
    outcomes = damaged_headers(path, number=50, seed=7)
    assert [(outcome, detail) for outcome, detail in outcomes if outcome not in ALLOWED] == []
    assert Counter(outcome for outcome, _ in outcomes)["refused"] > 5  # the damage is felt


@pytest.mark.soak
def test_two_thousand_damaged_headers_end_no_process(tmp_path: Path) -> None:
    outcomes = []
    for number, variant in enumerate(VARIANTS):
        path = tmp_path / f"{variant}.TCF"
        VARIANTS[variant](path)
        outcomes += damaged_headers(path, number=2000 // len(VARIANTS) + 1, seed=100 + number)
    assert len(outcomes) >= 2000
    assert {outcome for outcome, _ in outcomes} <= {*ALLOWED, "unguarded"}
