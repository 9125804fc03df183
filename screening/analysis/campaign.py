"""Many plates as one: replicates on different plates fitted together, and one ranking for the campaign."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from plates.errors import MissingInputError, StoreError
from plates.results import read_result, write_result

from .dose_response import fit_dose_response
from .kinetics import half_times
from .ranking import rank

SUFFIX = ".results.zarr"


def combine(
    results: Sequence[Path],
    *,
    campaign: Path,
    timepoint: int = -1,
    draws: int = 400,
    seed: int = 0,
    provenance: Mapping[str, str] | None = None,
) -> Path:
    """Fit all plates together; write the groups `plates`, `dose_response`, `kinetics`, `ranking`.

    Plates whose verdict is FAIL stay in `plates` but out of the fits, unless every plate has failed: then
    all are used, and the reader is told in `plates.attrs["note"]`.

    Parameters
    ----------
    results
        Results stores of the plates, with their groups `normalized` and `quality`.
    campaign
        Store to write; ".results.zarr" is appended where it is missing.
    timepoint
        Position of the timepoint that curves are read at, on every plate.
    draws, seed
        Of the kinetics' intervals; the seed of the simulated null, too.
    provenance
        What made the results, to be stored with each.

    Raises
    ------
    MissingInputError
        No plate is given, or one lacks a group.
    StoreError
        Two plates have the same name.
    """
    stores = [Path(path) for path in results]
    if not stores:
        raise MissingInputError(
            "A campaign needs at least one plate's results, none were given. List them in [campaign]."
        )
    names = [path.name.removesuffix(SUFFIX) for path in stores]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise StoreError(
            f"Two plates are called {twice[0]}: {', '.join(str(p) for p in stores)}. "
            "Every plate of a campaign needs a name of its own; rename one store."
        )
    normalized = [
        read_result(path, "normalized").assign_attrs(plate=name) for path, name in zip(stores, names, strict=True)
    ]
    quality = [read_result(path, "quality") for path in stores]
    passed = [one.attrs["verdict"] != "FAIL" for one in quality]
    used = passed if any(passed) else [True] * len(stores)
    chosen = [plate for plate, use in zip(normalized, used, strict=True) if use]

    curves = fit_dose_response(chosen, timepoint=timepoint, seed=seed)
    courses = half_times(chosen, draws=draws, seed=seed)
    target = campaign if campaign.name.endswith(SUFFIX) else campaign.with_name(campaign.name + SUFFIX)
    made_from = {"plates": [str(path) for path in stores], "timepoint": timepoint, "seed": seed, **(provenance or {})}
    groups = {
        "plates": _plates(stores, names, quality, used, timepoint=timepoint, all_failed=not any(passed)),
        "dose_response": curves,
        "kinetics": courses,
        "ranking": rank(curves, courses, chosen, timepoint=timepoint),
    }
    for name, dataset in groups.items():
        write_result(target, name, dataset, provenance=made_from)
    return target


def _plates(
    stores: list[Path],
    names: list[str],
    quality: list[xr.Dataset],
    used: list[bool],
    *,
    timepoint: int,
    all_failed: bool,
) -> xr.Dataset:
    death = [one.sel(readout="death").isel(timepoint=timepoint) for one in quality]
    numbers = ("z_prime", "robust_z_prime", "ssmd", "n_negative", "n_positive")
    texts = {
        "verdict": [str(one.attrs["verdict"]) for one in quality],
        "reasons": [str(one.attrs["reasons"]) for one in quality],
        "path": [str(path) for path in stores],
    }
    return xr.Dataset(
        {
            **{name: ("plate", np.array([float(one[name]) for one in death])) for name in numbers},
            **{name: ("plate", np.array(values, dtype=object)) for name, values in texts.items()},
            "used": ("plate", np.array(used)),
        },
        coords={"plate": np.array(names, dtype=object)},
        attrs={"note": "Every plate failed its quality control; all were used nevertheless." if all_failed else ""},
    )
