"""What the plate maps of a plate can show: one stored number a well and timepoint each, with its scale and words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from plates.states import COLOURS, DEAD, LETTERS, STATES

from . import plate_maps, words
from .plate_maps import CELL, HEAD, SHARE, STEPS, Scale
from .tables import wells_of

STATE_MAPS, OTHER_MAPS = "states", "other"
CLEARLY_DEAD = 0.1  # share of dead cells below which a leading pathway would be noise
PATHWAYS = tuple((LETTERS[state], state, COLOURS[state]) for state in DEAD)
NO_PATHWAY = ("", "few deaths", "#e3e7eb")


@dataclass(frozen=True)
class Quantity:
    """A number a well and timepoint: `stored` holds whole numbers (timepoint, well), -1 where there is none.

    One row serves all timepoints where a quantity belongs to the whole time. `note` says in a sentence what it is.
    """

    name: str
    group: str
    stored: np.ndarray
    note: str
    scale: Scale = field(default=SHARE)

    def at(self, timepoint: int) -> np.ndarray:
        """Stored numbers of all wells at a timepoint."""
        row: np.ndarray = self.stored[min(timepoint, len(self.stored) - 1)]
        return row


def plate_quantities(results: Mapping[str, xr.Dataset]) -> list[Quantity]:
    """Every quantity that the stored results of a plate hold, in the order of the plate map's wells.

    Parameters
    ----------
    results
        By name: `layout` and `fractions`, and of `probabilities` and `kinetics` those that are there.
    """
    layout = results["layout"]
    fractions = results["fractions"].reindex(well=layout["well"].values)
    death = fractions["death"].transpose("timepoint", "well").values
    found = [Quantity("dead cells", STATE_MAPS, _whole(death, 1000), "the three pathways together")]
    for state in STATES:
        share = fractions["fraction"].sel(state=state).transpose("timepoint", "well").values
        found.append(Quantity(state, STATE_MAPS, _whole(share, 1000), ""))
    found.append(_leading(fractions, death))
    if "live_of_seeded" in fractions:
        living = fractions["live_of_seeded"].transpose("timepoint", "well").values
        note = "living cells as share of the patches with cells in vehicle wells; cells that came off count as lost"
        found.append(Quantity("viability", OTHER_MAPS, _whole(np.clip(living, 0, 1), 1000), note))
    found += _times(layout, results.get("kinetics"), float(fractions["hours"].values[-1]))
    patches = fractions["patches"].transpose("timepoint", "well").values.astype(float)
    most = float(np.nanmax(patches, initial=1.0))
    amount = Scale(high=max(most, 1.0), factor=1.0, unit="patches", digits=0)
    found.append(Quantity("patches with cells", OTHER_MAPS, _whole(patches, 1), "how many were judged", amount))
    if "probabilities" in results:
        found += _doubt(results["probabilities"].reindex(well=layout["well"].values))
    return found


def cube(quantities: list[Quantity], layout: xr.Dataset, hours: np.ndarray) -> dict[str, Any]:
    """All quantities at all timepoints, and how a plate is drawn, for the slider and the readout of the page."""
    return {
        "cell": CELL,
        "head": HEAD,
        "steps": STEPS,
        "colours": plate_maps.colour_scale()[::2],
        "wells": [str(well) for well in layout["well"].values],
        "row": layout["row"].values.tolist(),
        "column": layout["column"].values.tolist(),
        "hours": [float(f"{hour:.4g}") for hour in hours],
        "times": [words.hours(hour) for hour in hours],
        "states": [
            {"name": state, "letter": LETTERS[state], "colour": COLOURS[state], "ink": words.LETTER_INKS[state]}
            for state in STATES
        ],
        "quantities": [
            {
                "name": one.name,
                "low": one.scale.low,
                "high": one.scale.high,
                "factor": one.scale.factor,
                "unit": one.scale.unit,
                "digits": one.scale.digits,
                "categories": [
                    {
                        "letter": letter,
                        "name": name,
                        "colour": colour,
                        "light": words.LETTER_INKS.get(name) == "#ffffff",
                    }
                    for letter, name, colour in one.scale.categories
                ],
                "values": one.stored.tolist(),
            }
            for one in quantities
        ],
    }


def _whole(values: np.ndarray, times: float) -> np.ndarray:
    return np.where(np.isfinite(values), np.rint(np.nan_to_num(values) * times), -1).astype(int)


def _leading(fractions: xr.Dataset, death: np.ndarray) -> Quantity:
    """The pathway with most of a well's deaths, where there are enough of them."""
    share = fractions["fraction"].sel(state=list(DEAD)).transpose("timepoint", "well", "state").values
    leading = np.argmax(np.nan_to_num(share), axis=2)
    leading = np.where(death < CLEARLY_DEAD, len(DEAD), leading)
    note = f"the pathway of most deaths where at least {CLEARLY_DEAD:.0%} of the cells are dead"
    return Quantity(
        "dominant pathway",
        OTHER_MAPS,
        np.where(np.isfinite(death), leading, -1).astype(int),
        note,
        Scale(factor=1.0, unit="", digits=0, categories=(*PATHWAYS, NO_PATHWAY)),
    )


def _times(layout: xr.Dataset, kinetics: xr.Dataset | None, last: float) -> list[Quantity]:
    """When half of the cells, or of the final deaths, had died: stored for a compound's dose, shown in its wells."""
    if kinetics is None or not last > 0:
        return []
    found = []
    for name, title, note in (
        ("t50", "time of 50 % death", "until half of the cells had died beyond vehicle, fitted to a compound's dose"),
        ("t_half", "half-time of death", "until half of the final deaths had happened, of a compound's dose"),
    ):
        if f"{name}_by_dose" not in kinetics:
            continue
        wells = np.full(layout.sizes["well"], math.nan)
        for index, compound in enumerate(kinetics["compound"].values):
            mine = wells_of(layout, str(compound))
            doses = kinetics["dose_by_dose"].values[index].astype(float)
            times = kinetics[f"{name}_by_dose"].values[index].astype(float)
            for dose, time in zip(doses, times, strict=True):
                if math.isfinite(dose):
                    wells[mine[np.isclose(layout["dose"].values[mine].astype(float), dose, rtol=1e-6)]] = time
        if np.isfinite(wells).any():
            tenths = _whole(wells[None], 10)
            found.append(Quantity(title, OTHER_MAPS, tenths, note, Scale(high=last, unit="h")))
    return found


def _doubt(probabilities: xr.Dataset) -> list[Quantity]:
    """How sure the classifier was of a well's patches: entropy, and the share it calls uncertain."""
    values = probabilities["probability"].transpose("timepoint", "well", "field", "py", "px", "state").values
    below = float(probabilities.attrs.get("uncertain_below", math.nan))
    # a timepoint after the other: a long plate has more patches than should be held several times
    rows = [_doubt_at(frame, below) for frame in values]
    entropy, unsure = (np.array([row[which] for row in rows]) for which in (0, 1))
    if not np.isfinite(entropy).any():
        return []
    note = "how undecided the probabilities of a patch are: 0 % certain, 100 % all five states alike"
    found = [Quantity("mean entropy", OTHER_MAPS, _whole(entropy, 1000), note)]
    if math.isfinite(below):
        note = f"patches whose likeliest state has a probability below {below:.2f}"
        found.append(Quantity("uncertain patches", OTHER_MAPS, _whole(unsure, 1000), note))
    return found


def _doubt_at(values: np.ndarray, below: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean entropy and share of uncertain patches of each well, from (well, field, py, px, state)."""
    judged = np.isfinite(values[..., 0])
    number = judged.sum(axis=(1, 2, 3)).astype(float)
    number[number == 0] = math.nan
    surprise = (-values * np.log(np.clip(values, 1e-12, 1))).sum(axis=-1) / math.log(values.shape[-1])
    entropy = np.where(judged, surprise, 0).sum(axis=(1, 2, 3)) / number
    return entropy, (judged & (values.max(axis=-1) < below)).sum(axis=(1, 2, 3)) / number
