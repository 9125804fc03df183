"""What the page tells of one well when it is opened: its line of the plate map, its intervals, what was left out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from plates.layout.roles import is_masked

from . import words
from .plate_maps import thousandths

EVERY = -1  # of an exclusion's field and timepoint: all of them
HIDDEN = ("row", "column")
LONGEST = 400  # characters of a reason


def wells_of_plate(results: Mapping[str, xr.Dataset]) -> dict[str, Any]:
    """Everything that the drawer of a well shows and the plate maps do not hold, in the order of the plate map's wells.

    Parameters
    ----------
    results
        By name: `layout`, `fractions` and `quality`, and of `exclusions`, `field_quality` those that are there.

    Returns
    -------
    dict
        `map`: columns of the plate map with the text of each well; `source`: its file; `low`, `high`: interval of
        death in thousandths, (timepoint, well), -1 where there is none; `fields`: fields used (timepoint, well);
        `flags`: (well); `left_out`, `proposed`: sentences by well.
    """
    layout = results["layout"]
    fractions = results["fractions"].reindex(well=layout["well"].values)
    flags = results["quality"]["flags"].reindex(well=layout["well"].values, fill_value="").values
    return {
        "map": [{"name": name, "cells": cells} for name, cells in _map_columns(layout)],
        "source": words.plain(layout.attrs.get("source", "the plate map")),
        "low": _course(fractions, "death_low"),
        "high": _course(fractions, "death_high"),
        "fields": _amounts(fractions, "fields_used"),
        "flags": [words.plain(str(flag).replace("_", " "), longest=LONGEST) for flag in flags],
        "left_out": _left_out(layout, results.get("exclusions")),
        "proposed": _proposed(results.get("field_quality")),
    }


def _map_columns(layout: xr.Dataset) -> list[tuple[str, list[str]]]:
    """Columns of the plate map that say anything, as text; doses with their unit."""
    columns = []
    for name in sorted(str(name) for name in layout.data_vars if layout[name].dims == ("well",)):
        if name in HIDDEN:
            continue
        values = layout[name].values
        if name == "dose":
            cells = ["" if math.isnan(float(value)) else words.concentration(float(value)) for value in values]
        elif values.dtype.kind == "f":
            cells = ["" if math.isnan(value) else words.number(float(value)) for value in values]
        else:
            cells = [words.plain(value, longest=LONGEST) for value in values]
        if any(cells):
            columns.append((name.replace("_", " "), cells))
    first = ["compound", "dose", "control", "inducer"]
    return sorted(columns, key=lambda entry: (first.index(entry[0]) if entry[0] in first else len(first), entry[0]))


def _course(fractions: xr.Dataset, name: str) -> list[list[int]]:
    return [thousandths(row) for row in fractions[name].transpose("timepoint", "well").values]


def _amounts(fractions: xr.Dataset, name: str) -> list[list[int]]:
    if name not in fractions:
        return []
    values = fractions[name].transpose("timepoint", "well").values.astype(float)
    rows: list[list[int]] = np.where(np.isfinite(values), np.nan_to_num(values), -1).astype(int).tolist()
    return rows


def _left_out(layout: xr.Dataset, exclusions: xr.Dataset | None) -> dict[str, list[str]]:
    """What was left out of each well, in sentences: by the plate map, or by whom, when and why."""
    said: dict[str, list[str]] = {}
    recorded = exclusions is not None and exclusions.sizes.get("exclusion", 0) > 0
    if exclusions is not None and recorded:
        for index in range(exclusions.sizes["exclusion"]):
            one = {
                name: exclusions[name].values[index]
                for name in ("well", "field", "timepoint", "reason", "name", "date")
            }
            what = (
                "the whole well"
                if int(one["field"]) == int(one["timepoint"]) == EVERY
                else ", ".join(f"{kind} {int(one[kind])}" for kind in ("field", "timepoint") if int(one[kind]) != EVERY)
            )
            reason = words.plain(one["reason"], longest=LONGEST)
            by = f"by {words.plain(one['name'])} on {words.plain(one['date'])}"
            said.setdefault(str(one["well"]), []).append(f"{what}, {by}: {reason}")
    for place in np.flatnonzero(is_masked(layout)):
        well = str(layout["well"].values[place])
        why = words.plain(layout["masked"].values[place], longest=LONGEST)
        said.setdefault(well, []).append(f"the whole well, by the plate map: {why}")
    return said


def _proposed(found: xr.Dataset | None) -> dict[str, list[str]]:
    """Fields that the rule proposes to leave out, in sentences by well."""
    if found is None:
        return {}
    proposed = found["proposed"].transpose("well", "field", "timepoint").values.astype(bool)
    reasons = found["reason"].transpose("well", "field", "timepoint").values
    said: dict[str, list[str]] = {}
    for well, field in np.argwhere(proposed.any(axis=2)):
        at = np.flatnonzero(proposed[well, field])
        why = ", ".join(dict.fromkeys(part for text in reasons[well, field, at] for part in str(text).split(", ")))
        when = ", ".join(str(found["timepoint"].values[t]) for t in at)
        told = f"field {int(found['field'].values[field])}, timepoint {when}: {words.plain(why, longest=LONGEST)}"
        said.setdefault(str(found["well"].values[well]), []).append(told)
    return said
