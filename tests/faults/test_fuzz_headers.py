"""TCF headers with three flipped bits in the first 4 KB (row 39): an error that names the file, or a right answer.

Two thousand of them: `python -m tests.benchmarks.header_fuzz 2000`.
"""

from collections import Counter
from pathlib import Path

import pytest

from tests.benchmarks.header_fuzz import damaged_headers
from tests.benchmarks.tcf_fuzz import ALLOWED, VARIANTS


@pytest.mark.parametrize("variant", ["gzip", "8-bit tiles"])
def test_a_damaged_header_is_refused_or_changes_nothing(tmp_path: Path, variant: str) -> None:
    path = tmp_path / f"{variant}.TCF"
    VARIANTS[variant](path)
    outcomes = damaged_headers(path, number=50, seed=7)
    assert [(outcome, detail) for outcome, detail in outcomes if outcome not in ALLOWED] == []
    assert Counter(outcome for outcome, _ in outcomes)["refused"] > 5  # the damage is felt
