"""How well annotation by stains recovers the truth of simulated plates.

    python -m tests.benchmarks.annotation WORK_FOLDER [SEED ...]

Each seed is one plate of 21 wells (6 vehicle, 3 of each inducer, 2 compounds in 3 doses), one field of 104 um, six
timepoints, three stains. Prints Markdown tables for docs/annotation.md. About ten minutes and 2 GB a plate on a core.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from plates.annotation.rule import UNDECIDED
from plates.ingest.convert import Reading, ingest
from plates.layout import read_plate_map
from plates.simulation.design import design_plates, make_library
from plates.simulation.plate import VERSION, simulate_plate
from plates.simulation.truth import patch_areas
from plates.states import DEAD, STATES
from screening.annotate import Annotation, Options, annotate_plate

SEEDS = (5101, 5102)
HOURS = (0.0, 2.0, 4.0, 8.0, 12.0, 16.0)
OPTIONS = Options(hoechst_channel="CH0", annexin_channel="CH1", pi_channel="CH2")


def make_plate(
    folder: Path,
    *,
    seed: int,
    compounds: int = 2,
    doses_um: tuple[float, ...] = (0.48, 3.84, 30.72),
    vehicles: int = 6,
    inducers: int = 3,
    hours: tuple[float, ...] = HOURS,
    size: int = 640,
    registered: bool = True,
) -> tuple[Path, Path]:
    """Simulate and ingest one stained plate with one field a well; its store and its truth."""
    library = make_library(seed, compounds=compounds)
    (design,) = design_plates(
        library,
        seed=seed,
        plates=1,
        doses_um=doses_um,
        vehicles=vehicles,
        inducers=inducers,
        hours=hours,
        fields=1,
        shape=(12, size, size),
        fluorescence=True,
    )
    acquisitions = simulate_plate(design, folder)
    store = folder / "results" / f"{design.name}.zarr"
    reading = Reading(fluorescence="registered" if registered else "metadata")
    ingest(acquisitions, out=store, plate_map=read_plate_map(folder / f"{design.name}.csv"), reading=reading)
    return store, folder / f"{design.name}.truth"


def compared(annotation: Annotation, truth: Path) -> pd.DataFrame:
    """The table with the true state of every patch that cells cover, its hours and the role of its well.

    `truth` is the state that covers most of the patch's cells, `meant` the same with "live-control" in a treated well
    called "live-treated": that a treated cell does not respond yet is nothing that stains or the plate map could show.
    """
    areas = patch_areas(truth)
    wells = {str(name): number for number, name in enumerate(areas["well"].to_numpy())}
    table = annotation.table
    rows, columns = (
        np.abs(table[name].to_numpy()[:, None] - areas[centres].to_numpy()[None]).argmin(axis=1)
        for name, centres in (("y_um", "py_um"), ("x_um", "px_um"))
    )
    place = (
        table["well"].map(wells).to_numpy(),
        table["field"].to_numpy(),
        table["timepoint"].to_numpy(),
        rows,
        columns,
    )
    shares = areas.to_numpy()[place]
    true = np.array(STATES, dtype=object)[shares.argmax(axis=1)]
    role = table["well"].map(annotation.markers.wells.set_index("well")["role"])
    meant = np.where((true == "live-control") & (role != "negative"), "live-treated", true)
    hours = np.array(annotation.markers.hours)[table["timepoint"]]
    full = table.assign(truth=true, meant=meant, hours=hours, role=role)
    covered: pd.DataFrame = full[(shares.sum(axis=1) >= 0.1) & (table["area"] >= 0.1).to_numpy()]
    return covered


def by_hour(patches: pd.DataFrame) -> str:
    """Agreement and undecided patches by hour, as a Markdown table."""
    lines = [
        "| h | patches | undecided | agreement | as the rule means it | dead or alive | early deaths called alive |",
        "|---|---|---|---|---|---|---|",
    ]
    for hours, rows in [*patches.groupby("hours"), ("all", patches)]:
        lines.append(f"| {hours} | {_scores(rows)} |")
    return "\n".join(lines)


def _scores(rows: pd.DataFrame) -> str:
    decided = rows[rows["state"] != UNDECIDED]
    dead, truly = decided["state"].isin(DEAD), decided["truth"].isin(DEAD)
    numbers = [
        str(len(rows)),
        f"{(rows['state'] == UNDECIDED).mean():.2f}",
        f"{(decided['state'] == decided['truth']).mean():.3f}",
        f"{(decided['state'] == decided['meant']).mean():.3f}",
        f"{(dead == truly).mean():.3f}",
        f"{int((~dead & truly).sum())} of {int(truly.sum())}",
    ]
    return " | ".join(numbers)


def by_state(patches: pd.DataFrame) -> str:
    """Decided patches of each state by what they truly are, as a Markdown table."""
    lines = [
        "| called | " + " | ".join(STATES) + " | right, as the rule means it |",
        "|---|" + "---|" * (len(STATES) + 1),
    ]
    for state in (*STATES, UNDECIDED):
        rows = patches[patches["state"] == state]
        counts = [str(int((rows["truth"] == truth).sum())) for truth in STATES]
        right = "" if state == UNDECIDED or rows.empty else f"{(rows['meant'] == state).mean():.3f}"
        lines.append(f"| {state} | {' | '.join(counts)} | {right} |")
    return "\n".join(lines)


def main(folder: Path, seeds: tuple[int, ...]) -> None:
    """Print the tables."""
    parts = []
    for seed in seeds:
        store, truth = make_plate(folder / str(seed), seed=seed)
        (store.with_name(f"{store.stem}.annotations.csv")).unlink(missing_ok=True)
        annotation = annotate_plate(store, options=OPTIONS)
        parts.append(compared(annotation, truth))
        for marker, gates in annotation.gates.items():
            print(f"seed {seed}, {marker}: {gates.plate}", flush=True)
    patches = pd.concat(parts)
    print(f"\nsimulator version {VERSION}, seeds {', '.join(map(str, seeds))}\n")
    print(by_hour(patches), by_state(patches), sep="\n\n")
    late = patches[patches["hours"] >= 8]
    print(f"\nfrom 8 h on: {_scores(late)}")
    print("\n" + patches.loc[patches["state"] == UNDECIDED, "rule"].value_counts().to_string())


if __name__ == "__main__":
    main(Path(sys.argv[1]), tuple(map(int, sys.argv[2:])) or SEEDS)
