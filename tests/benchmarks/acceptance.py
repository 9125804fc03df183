"""Every number of the statistics that others certified or computed: what is reached and what is required.

    python -m tests.benchmarks.acceptance [DATA] [PLATES]

Prints the tables of `curve_accuracy` and `quality_values`, one after the other; about two minutes.
"""

import sys
from pathlib import Path

from tests.benchmarks import curve_accuracy, quality_values


def main(data: Path, plates: int) -> bool:
    """Print all tables; True where every requirement of `quality_values`, which judges itself, was met."""
    curve_accuracy.main(data)
    print(flush=True)
    return quality_values.main(plates, data)


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else curve_accuracy.DATA
    sys.exit(not main(folder, int(sys.argv[2]) if len(sys.argv) > 2 else 5))
