"""Whether 95 % intervals hold the true EC50 and whether noise is called an effect as often as it should be.

    python -m tests.benchmarks.curve_coverage [CURVES] [SEED]

Seeded simulation of real designs (3,000 curves each by default; 20,000 for the table of the docs). Coverage counts
curves with a true EC50 inside the tested doses, those called no effect included; false positives are raw p-values
of flat curves below the level. Prints Markdown tables.
"""

import sys

import numpy as np
import pandas as pd

from screening.analysis.curves import fit_curves, fit_table

DESIGNS = ((6, 2), (6, 3), (8, 1), (8, 3), (10, 1), (10, 2), (12, 4))
LEVELS = (0.05, 0.01)


def clean(dose: np.ndarray, ec50: np.ndarray, hill: np.ndarray, top: np.ndarray) -> np.ndarray:
    """Responses without noise, (curve, well)."""
    return np.asarray(top[:, None] / (1 + (ec50[:, None] / dose) ** hill[:, None]))


def coverage(count: int, seed: int) -> list[list[str]]:
    """One row a design."""
    rows = []
    for doses, replicates in DESIGNS:
        rng = np.random.default_rng([seed, doses, replicates])
        dose = np.repeat(np.geomspace(0.01, 30, doses), replicates)
        ec50, hill = 10 ** rng.uniform(-1.7, 1.2, count), np.exp(rng.normal(0.2, 0.4, count))
        truth = clean(dose, ec50, hill, rng.uniform(0.4, 1, count))
        fits = fit_curves(dose, truth + rng.normal(0, 0.05, truth.shape), alpha=1.0, minimum_effect=-1.0)
        covered = (fits["profile_low"] <= ec50) & (ec50 <= fits["profile_high"])
        told = fits["status"] == "quantified"
        wrong = (told & ~((fits["ec50_low"] <= ec50) & (ec50 <= fits["ec50_high"])))[told]
        flat = fit_curves(dose, rng.normal(0, 0.05, (count, dose.size)))
        false = [(flat["p_value"] < level).mean() for level in LEVELS]
        outside = ~told & (fits["ec50_high"] < ec50) | ~told & (fits["ec50_low"] > ec50)
        rows.append(
            [
                f"{doses} x {replicates}",
                f"{covered.mean():.3f}",
                f"{told.mean():.2f}",
                f"{1 - wrong.mean():.3f}",
                f"{1 - outside[~told].mean():.3f}",
                *(f"{one / level:.2f}" for one, level in zip(false, LEVELS, strict=True)),
                f"{(flat['status'] != 'no_effect').mean():.4f}",
            ]
        )
    return rows


def plates(count: int, seed: int) -> list[list[str]]:
    """Replicates that lie on three plates: whether plates that disagree are told by the interval."""
    rows = []
    dose = np.geomspace(0.01, 30, 8)
    for name, shift, factor in (
        ("plates agree", 0.0, 0.0),
        ("plates shift responses, SD 0.05", 0.05, 0.0),
        ("plates shift responses, SD 0.1", 0.1, 0.0),
        ("plates shift log10 EC50, SD 0.1", 0.0, 0.1),
    ):
        rng = np.random.default_rng([seed, 77])
        ec50, hill = 10 ** rng.uniform(-1.2, 0.7, count), np.exp(rng.normal(0.2, 0.3, count))
        top = rng.uniform(0.6, 1, count)
        parts = []
        for plate in range(3):
            moved = ec50 * 10 ** rng.normal(0, factor, count)
            y = clean(dose, moved, hill, top) + rng.normal(0, shift, count)[:, None]
            y += rng.normal(0, 0.05, y.shape)
            parts.append(
                pd.DataFrame(
                    {"curve": np.repeat(np.arange(count), 8), "dose": np.tile(dose, count), "y": y.ravel(), "p": plate}
                )
            )
        frame = pd.concat(parts)
        covered = []
        for plate_column in (None, "p"):
            fits = fit_table(frame, dose="dose", response="y", curve="curve", plate=plate_column, alpha=1.0)
            inside = (fits["profile_low"].to_numpy() <= ec50) & (ec50 <= fits["profile_high"].to_numpy())
            covered.append(f"{inside.mean():.3f}")
        rows.append([name, *covered])
    return rows


def table(head: list[str], rows: list[list[str]]) -> None:
    """Print Markdown."""
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def main(count: int, seed: int) -> None:
    """Print both tables."""
    head = ["doses x wells", "coverage (0.93 to 0.97)", "quantified", "coverage of those", "bounds that hold"]
    head += [f"false positives at {level} over nominal (0.8 to 1.2)" for level in LEVELS]
    table([*head, "flat called an effect (FDR 0.01)"], coverage(count, seed))
    table(
        ["three plates, a well each", "coverage, wells taken as independent", "with plates known"], plates(count, seed)
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3000, int(sys.argv[2]) if len(sys.argv) > 2 else 1)
