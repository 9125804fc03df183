"""TCF headers with three flipped bits in the first 4 KB, read in children under limits of memory and time.

python -m tests.benchmarks.header_fuzz [FILES] [SEED]
"""

import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from .tcf_fuzz import ALLOWED, Mutation, _in_children, write_variants

HEADER_BYTES = 4096


def main() -> None:
    files = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    total: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        variants = [*write_variants(Path(folder))]
        for number, path in enumerate(variants):
            outcomes = damaged_headers(path, number=-(-files // len(variants)), seed=seed + number)
            total += Counter(outcome for outcome, _ in outcomes)
            for outcome, detail in outcomes:
                if outcome not in ALLOWED:
                    print("   ", outcome, detail)
    print(f"{total.total()} files:", dict(total.most_common()))


def damaged_headers(path: Path, *, number: int, seed: int) -> list[tuple[str, str]]:
    """What comes of files with three flipped bits in what describes them, and which bits where it is not harmless."""
    rng = np.random.default_rng(seed)
    size = min(HEADER_BYTES, path.stat().st_size)
    mutations = [
        Mutation(flips=tuple((int(rng.integers(size)), int(rng.integers(8))) for _ in range(3))) for _ in range(number)
    ]
    return _in_children(path, mutations)


if __name__ == "__main__":
    main()
