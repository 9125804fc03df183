"""How well the whole job recovers the truth, on simulated campaigns whose seeds nothing was tuned on.

    python -m tests.benchmarks.campaign_accuracy WORK_FOLDER [SEED ...]

Each seed is a campaign of two plates with eight new compounds. Prints one row a campaign and the pooled numbers as
a Markdown table, with what was required. About four minutes and 7 GB of disk a campaign on two cores.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import spearmanr

from plates.results import read_result
from plates.simulation.truth import true_fractions
from plates.states import STATES
from screening.demo import run_demo
from screening.terminal import Bars

SEEDS = (9001, 9002, 9003, 9004, 9005)


@dataclass
class Score:
    """What one campaign was scored."""

    seed: int
    fraction_error: float  # mean absolute error of a state's fraction, over wells and timepoints
    cell_error: float  # the same against the fractions of cells, not of patches
    compounds: pd.DataFrame


def score_campaign(folder: Path, seed: int, bars: Bars) -> Score:
    """Run one campaign and compare it with its truth."""
    outcome, comparison = run_demo(folder / f"campaign{seed}", seed=seed, progress=bars)
    truths = folder / f"campaign{seed}" / "acquisitions"
    patch_errors, cell_errors = [], []
    for name, path in outcome.plates.items():
        measured = read_result(path, "fractions")["fraction"]
        expected = true_fractions(truths / f"{name}.truth")
        patch_errors.append(np.abs(measured.sel(well=expected["well"]).to_numpy() - expected.to_numpy()).ravel())
        cells = cell_fractions(truths / f"{name}.truth", expected)
        cell_errors.append(np.abs(measured.sel(well=expected["well"]).to_numpy() - cells).ravel())
    return Score(
        seed,
        float(np.nanmean(np.concatenate(patch_errors))),
        float(np.nanmean(np.concatenate(cell_errors))),
        comparison,
    )


def cell_fractions(truth: Path, like: xr.DataArray) -> np.ndarray:
    """Fraction of each well's cells in each state; (well, timepoint, state), cells centred inside the field."""
    cells = pd.read_csv(truth / "cells.csv")
    size = 78.0  # um, of the demonstration's fields
    cells = cells[cells["y_um"].between(0, size) & cells["x_um"].between(0, size)]
    result = np.full(like.shape, np.nan)
    for row, well in enumerate(like["well"].to_numpy()):
        mine = cells[cells["well"] == well]
        for column, hour in enumerate(like["hours"].to_numpy()):
            there = mine[(mine["born_h"] <= hour) & (hour < mine["detach_h"])]
            if len(there):
                live = np.where(hour >= there["response_h"], "live-treated", "live-control")
                state = np.where(hour >= there["onset_h"], there["pathway"], live)
                result[row, column] = [(state == name).mean() for name in STATES]
    return result


def summarise(scores: list[Score]) -> str:
    """The table that goes into docs/benchmarks.md."""
    compounds = pd.concat([score.compounds.assign(seed=score.seed) for score in scores])
    tested = compounds["true EC50 uM"].between(0.03, 30.72)
    active = compounds[(compounds["true pathway"] != "none") & tested]
    found = np.isfinite(active["EC50 uM"]) & (active["EC50 uM"] > 0)
    ratio = (active["EC50 uM"].where(found) / active["true EC50 uM"]).map(np.log2).abs()
    covered = (active["low"] <= active["true EC50 uM"]) & (active["true EC50 uM"] <= active["high"])
    correlations = [_spearman(score.compounds) for score in scores]
    inert = compounds[compounds["true pathway"] == "none"]
    rows = [
        (
            "state fractions of wells, mean absolute error (patches)",
            np.mean([s.fraction_error for s in scores]),
            "<= 0.06",
        ),
        ("the same against fractions of cells", np.mean([s.cell_error for s in scores]), "-"),
        (f"EC50 within a factor of 2 ({len(active)} active compounds)", (ratio <= 1).mean(), ">= 0.80"),
        ("EC50 median factor off", 2 ** ratio.median(), "-"),
        ("95 % interval holds the true EC50", covered.mean(), "-"),
        ("dominant pathway right", (active["pathway"] == active["true pathway"]).mean(), ">= 0.90"),
        ("Spearman of the potency ranking, mean over campaigns", np.mean(correlations), ">= 0.90"),
        ("the same, worst campaign", np.min(correlations), "-"),
        (f"inert compounds ({len(inert)}) called active", (inert["status"] != "no_effect").sum(), "-"),
    ]
    lines = ["| what | reached | required |", "|---|---|---|"]
    return "\n".join(lines + [f"| {what} | {value:.3f} | {required} |" for what, value, required in rows])


def _spearman(compounds: pd.DataFrame) -> float:
    """Rank correlation of the recovered order with true potency; inert compounds come last, tied."""
    truth = compounds["true EC50 uM"].where(compounds["true pathway"] != "none", np.inf)
    return float(spearmanr(compounds["rank"], truth.rank()).statistic)


def main(folder: Path, seeds: list[int]) -> None:
    scores = []
    with Bars() as bars:
        for seed in seeds:
            scores.append(score_campaign(folder, seed, bars))
            print(scores[-1].compounds.to_string(index=False))
            print(f"seed {seed}: fraction error {scores[-1].fraction_error:.4f}", flush=True)
    print(summarise(scores))


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(seed) for seed in sys.argv[2:]] or list(SEEDS))
