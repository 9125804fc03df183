"""The whole job on simulated plates: make them, run them, and set what was recovered beside the truth."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from plates.errors import SettingsError
from plates.results import read_result
from plates.simulation.cells import CELL_LINES
from plates.simulation.design import design_annotation_plate, design_plates, make_library
from plates.simulation.plate import simulate_plate
from plates.simulation.truth import read_compounds
from screening.cluster import cluster, worker_count
from screening.pipeline import Outcome, run
from screening.settings import read_settings

Progress = Callable[[int, int, str], None]

SETTINGS = """# A simulated campaign: its truth lies in the .truth folders beside the plates.
[campaign]
name = "{name}"
out = "{out}"

{plates}
[workers]
count = {workers}
"""
PLATE = """[[plates]]
name = "{name}"
acquisitions = "{name}"
layout = "{name}.csv"

"""


def run_demo(
    out: Path, *, seed: int, workers: int | Literal["auto"] = "auto", progress: Progress | None = None
) -> tuple[Outcome, pd.DataFrame]:
    """Simulate a campaign of two plates, run it, and compare; files that are there already are used again."""
    settings = simulate_campaign(
        out / "acquisitions", seed=seed, results=out / "results", workers=workers, progress=progress
    )
    outcome = run(read_settings(settings), progress=progress)
    truths = [out / "acquisitions" / f"{name}.truth" for name in outcome.plates]
    return outcome, compare_with_truth(outcome.campaign_results, truths[0])


def simulate_campaign(
    folder: Path,
    *,
    seed: int,
    plates: int = 2,
    compounds: int = 8,
    hours: tuple[float, ...] = (0.0, 8.0, 16.0),
    results: Path | None = None,
    workers: int | Literal["auto"] = "auto",
    progress: Progress | None = None,
    line: str = "HeLa-like",
    controls: bool = False,
    **options: Any,
) -> Path:
    """Write simulated plates and the screen.toml that runs them.

    Parameters
    ----------
    line
        Name of the cell line, one of `plates.simulation.cells.CELL_LINES`.
    controls
        Plates of controls only, as a laboratory makes them to annotate; `compounds` plays no part then.
    results
        Where the run is to put its results; by default `results` beside the plates.
    options
        Fields of `plates.simulation.design.PlateDesign`.

    Returns
    -------
    Path
        The screen.toml.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if line not in CELL_LINES:
        raise SettingsError(f"The cell line {line!r} is not known. Expected one of {', '.join(CELL_LINES)}.")
    options |= {"line": CELL_LINES[line], "hours": hours}
    if controls:
        designs = [
            design_annotation_plate(seed * 1000 + number, name=f"P{number + 1:03d}", **options)
            for number in range(plates)
        ]
    else:
        designs = design_plates(make_library(seed, compounds=compounds), seed=seed, plates=plates, **options)
    with cluster(workers=worker_count(workers)) as client:
        for design in designs:
            simulate_plate(design, folder, client=client, progress=progress)
    settings = folder / "screen.toml"
    target = (results or folder / "results").resolve()
    settings.write_text(
        SETTINGS.format(
            name=f"simulated-{seed}",
            out=target.as_posix(),
            plates="".join(PLATE.format(name=design.name) for design in designs),
            workers=json.dumps(workers),
        ),
        encoding="utf-8",
    )
    return settings


def compare_with_truth(campaign_results: Path, truth: Path) -> pd.DataFrame:
    """Set the recovered potency, pathway and rank of each compound beside the simulated ones.

    Returns
    -------
    pd.DataFrame
        One row a compound, in the order of the recovered ranking. EC50 in uM; NaN where there is none:
        by truth for an inert compound, by the fit where no interior EC50 was found.
    """
    compounds = read_compounds(truth)
    ranking = read_result(campaign_results, "ranking")
    true_ec50 = pd.Series({name: _float(entry["ec50_um"]) for name, entry in compounds.items()})
    true_rank = true_ec50.rank(method="min")
    rows = []
    for number, name in enumerate(ranking["compound"].to_numpy()):
        one = ranking.isel(compound=number)
        rows.append(
            {
                "rank": number + 1,
                "compound": str(name),
                "status": str(one["status"].item()),
                "true EC50 uM": true_ec50[str(name)],
                "EC50 uM": float(one["ec50"]),
                "low": float(one["ec50_low"]),
                "high": float(one["ec50_high"]),
                "true pathway": compounds[str(name)]["dominant_pathway"],
                "pathway": str(one["dominant_pathway"].item()),
                "true rank": true_rank[str(name)],
            }
        )
    return pd.DataFrame(rows)


def _float(value: float | None) -> float:
    return np.nan if value is None else float(value)
