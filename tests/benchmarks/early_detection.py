"""Whether the lead of the label-free call over the markers is recovered, against the simulator's own delays.

    python -m tests.benchmarks.early_detection [PLATES] [FIRST_SEED]

Cells are drawn with their true onset and marker times; no image is made. A patch is one cell; its label-free call is
right with a stated accuracy at each frame on its own. Prints Markdown tables: the median lead per pathway, by patches,
for several frame spacings; by wells for populations; and the lag against a made-up cytometer that follows by the
markers' delay. The truth is the median delay of 200,000 drawn cells, for wells the distance of their
crossings.
"""

import sys

import numpy as np
import pandas as pd
import xarray as xr

from plates.simulation.death import Fate, draw_fate
from plates.simulation.design import INDUCERS
from plates.states import DEAD, STATES
from screening.analysis.early_detection import early_detection
from screening.analysis.flow import compare_with_flow

DOSE_UM = 0.15
WELLS, CELLS, VEHICLES = 8, 60, 8
THRESHOLD = 0.2
END_H = 18.0


def draw_cells(pathway: str | None, count: int, rng: np.random.Generator) -> list[Fate]:
    """Fates of cells under a pathway's inducer, or of untreated cells."""
    compound = INDUCERS[pathway] if pathway else None
    return [draw_fate(rng, compound, DOSE_UM) for _ in range(count)]


def draw_plate(
    hours: np.ndarray, accuracy: float, rng: np.random.Generator
) -> tuple[xr.Dataset, pd.DataFrame, xr.Dataset]:
    """Probabilities, annotation table and layout of a plate with wells of each inducer and vehicle; a field a row."""
    content = [None] * VEHICLES + [pathway for pathway in DEAD for _ in range(WELLS)]
    names = np.array([f"{chr(65 + number // 12)}{number % 12 + 1:02d}" for number in range(len(content))], dtype=object)
    probability = np.full((len(content), 1, hours.size, 1, CELLS, len(STATES)), np.nan, np.float32)
    rows = []
    for well, pathway in enumerate(content):
        for place, fate in enumerate(draw_cells(pathway, CELLS, rng)):
            there = hours < fate.detach_h
            dead = hours >= fate.onset_h
            wrong = rng.random(hours.size) > accuracy
            called = np.where(dead ^ wrong, STATES.index(fate.pathway), STATES.index("live-treated"))
            probability[well, 0, there, 0, place] = np.eye(len(STATES), dtype=np.float32)[called[there]]
            rows += [
                (names[well], 0, t, 12.8, 25.6 * place, 0.5, float(hours[t] >= fate.annexin_h))
                for t in np.flatnonzero(there)
            ]
    annotation = pd.DataFrame(rows, columns=["well", "field", "timepoint", "y_um", "x_um", "area", "positive"])
    probabilities = xr.Dataset(
        {"probability": (("well", "field", "timepoint", "py", "px", "state"), probability)},
        coords={
            "well": names,
            "field": [0],
            "timepoint": np.arange(hours.size),
            "state": list(STATES),
            "hours": ("timepoint", hours),
            "py_um": ("py", [12.8]),
            "px_um": ("px", 25.6 * np.arange(CELLS)),
        },
    )
    layout = xr.Dataset(
        {
            "compound": ("well", np.array([p or "DMSO" for p in content], dtype=object)),
            "control": ("well", np.array(["positive" if p else "negative" for p in content], dtype=object)),
            "dose": ("well", np.where([p is None for p in content], np.nan, DOSE_UM)),
        },
        coords={"well": names},
    )
    return probabilities, annotation, layout


def truth(pathway: str, count: int = 200_000) -> tuple[float, float]:
    """Median delay of a pathway's cells, and the distance of the crossings of their two populations."""
    rng = np.random.default_rng(1)
    fates = [fate for fate in draw_cells(pathway, count, rng) if np.isfinite(fate.onset_h)]
    onset, marker = (np.sort([getattr(fate, name) for fate in fates]) for name in ("onset_h", "annexin_h"))
    delays = np.array([fate.annexin_h - fate.onset_h for fate in fates if fate.pathway == pathway])
    place = int(THRESHOLD * len(fates))
    return float(np.median(delays)), float(marker[place] - onset[place])


def flow_of(annotation: pd.DataFrame, hours: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    """A cytometer's answer: the marker-positive share of each well every 3 h, of 2,000 cells."""
    share = annotation.groupby(["well", "timepoint"])["positive"].mean().reset_index()
    share = share[np.isclose(hours[share["timepoint"]] % 3, 0)]
    return pd.DataFrame(
        {
            "plate": "",
            "well": share["well"],
            "hours": hours[share["timepoint"]],
            "death": rng.binomial(2000, share["positive"]) / 2000,
        }
    )


def main(plates: int, first_seed: int) -> None:
    truths = {pathway: truth(pathway) for pathway in DEAD}
    print(
        "| frames every | accuracy | pathway | true median lead h | patches: mean found | 95 % holds | width h |",
        end="",
    )
    print(" wells: true | mean found | 95 % holds |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for step, accuracy in ((0.5, 1.0), (1.0, 1.0), (2.0, 1.0), (4.0, 1.0), (0.5, 0.95), (0.5, 0.90)):
        hours = np.arange(0.0, END_H + 1e-9, step)
        found: dict[str, list[tuple[float, ...]]] = {pathway: [] for pathway in DEAD}
        for number in range(plates):
            rng = np.random.default_rng([first_seed + number, round(10 * step), round(100 * accuracy)])
            probabilities, annotation, layout = draw_plate(hours, accuracy, rng)
            result = early_detection(probabilities, annotation, layout, threshold=THRESHOLD, draws=200, seed=number)
            for pathway in DEAD:
                one = result.isel(group=(result.group == pathway) & (result.group_kind == "compound")).squeeze("group")
                names = (
                    "patch_lead",
                    "patch_lead_low",
                    "patch_lead_high",
                    "well_lead",
                    "well_lead_low",
                    "well_lead_high",
                )
                found[pathway].append(tuple(float(one[name]) for name in names))
        for pathway in DEAD:
            values = np.array(found[pathway])
            median, crossing = truths[pathway]
            print(
                f"| {step:g} h | {accuracy:g} | {pathway} | {median:.2f} | {values[:, 0].mean():.2f} "
                f"| {((values[:, 1] <= median) & (median <= values[:, 2])).mean():.2f} "
                f"| {(values[:, 2] - values[:, 1]).mean():.2f} | {crossing:.2f} | {values[:, 3].mean():.2f} "
                f"| {((values[:, 4] <= crossing) & (crossing <= values[:, 5])).mean():.2f} |",
                flush=True,
            )
    hours = np.arange(0.0, END_H + 1e-9, 0.5)
    lags, agreements = [], []
    for number in range(plates):
        rng = np.random.default_rng([first_seed + number, 77])
        probabilities, annotation, layout = draw_plate(hours, 1.0, rng)
        called = probabilities.probability.mean(("field", "py", "px"))
        fractions = xr.Dataset({"fraction": called.transpose("well", "timepoint", "state")})
        kept = layout.well.values[np.isin(layout.compound.values, ["necroptosis"])]
        flow = flow_of(annotation[annotation["well"].isin(kept)], hours, rng)
        result = compare_with_flow(fractions, flow, draws=200, seed=number).squeeze("readout")
        lags.append([float(result[name]) for name in ("lag", "lag_low", "lag_high")])
        agreements.append([float(result[name]) for name in ("concordance", "bias")])
    lag, agreed = np.array(lags).mean(axis=0), np.array(agreements).mean(axis=0)
    print("\nFlow cytometry of the necroptosis wells every 3 h:")
    print(f"lag {lag[0]:.2f} h, interval {lag[1]:.2f} to {lag[2]:.2f} on average, true {truths['necroptosis'][0]:.2f};")
    print(f"concordance {agreed[0]:.2f}, bias {agreed[1]:+.3f}")


if __name__ == "__main__":
    numbers = [int(text) for text in sys.argv[1:]]
    main(numbers[0] if numbers else 3, numbers[1] if len(numbers) > 1 else 8001)
