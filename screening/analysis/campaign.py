"""Many plates as one: replicates on different plates fitted together, and one ranking for the campaign."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from plates.errors import MissingInputError, StoreError
from plates.results import has_result, read_result, results_path, write_result

from .campaign_charts import control_charts
from .campaign_checks import differences
from .dose_response import fit_dose_response
from .hits import HitRule
from .plate_combinations import fit_combinations
from .plate_pathways import fit_plate_pathways
from .ranking import rank
from .reference_trend import batch_effects, plate_agreement, reference_trend
from .time_deaths import time_deaths

SUFFIX = ".results.zarr"


def combine(
    results: Sequence[Path],
    *,
    campaign: Path,
    timepoint: int = -1,
    draws: int = 400,
    seed: int = 0,
    reference: str | None = None,
    batches: Mapping[str, str] | None = None,
    hit_rule: HitRule | None = None,
    allow_mixed: bool = False,
    provenance: Mapping[str, str] | None = None,
) -> Path:
    """Fit all plates together; write `plates`, `dose_response`, `kinetics`, `pathways`, `ranking`, and how steady.

    The latter are `reference_trend`, `agreement` and `batches` (`reference_trend.py`) and `control_charts`
    (`campaign_charts.py`), of all plates, failed ones too. `combinations` are those of `plate_combinations.py`.

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
    reference
        Compound whose EC50 is followed from plate to plate and gives the minimum significant ratio; without it all
        compounds that are quantified on three or more plates give it.
    batches
        Plate -> batch. Without it the day on which a plate's first field was acquired, where the plate tells.
    hit_rule
        What a hit is; `HitRule()` unless given.
    allow_mixed
        Put plates together although `campaign_checks.differences` found some; they are told in `plates.attrs["mixed"]`.
    provenance
        What made the results, to be stored with each.

    Raises
    ------
    MissingInputError
        No plate is given, or one lacks a group.
    StoreError
        Two plates have the same name, or plates were not made alike.
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
    mixed = differences({name: _made_by(path) for path, name in zip(stores, names, strict=True)})
    if mixed and not allow_mixed:
        raise StoreError(
            "These plates are not put into one ranking:\n" + "\n".join(mixed) + "\nConvert, classify and analyse them "
            "alike, leave some out, or say that they may be mixed."
        )
    passed = [one.attrs["verdict"] != "FAIL" for one in quality]
    used = passed if any(passed) else [True] * len(stores)
    chosen = [plate for plate, use in zip(normalized, used, strict=True) if use]

    own_curves = {
        name: read_result(path, "dose_response")
        for path, name in zip(stores, names, strict=True)
        if has_result(path, "dose_response")
    }
    controls = dict(zip(names, normalized, strict=True))
    acquired = _first_images(stores, names)
    trend = reference_trend(own_curves, controls, reference=reference, timepoint=timepoint)
    curves = fit_dose_response(chosen, timepoint=timepoint, seed=seed)
    courses = time_deaths(chosen, draws=draws, seed=seed)
    target = campaign if campaign.name.endswith(SUFFIX) else campaign.with_name(campaign.name + SUFFIX)
    made_from = {"plates": [str(path) for path in stores], "timepoint": timepoint, "seed": seed, **(provenance or {})}
    groups = {
        "plates": _plates(stores, names, quality, used, timepoint=timepoint, all_failed=not any(passed)).assign_attrs(
            mixed="\n".join(mixed)
        ),
        "dose_response": curves,
        "kinetics": courses,
        "pathways": fit_plate_pathways(chosen, timepoint=timepoint, seed=seed),
        "ranking": rank(
            curves,
            courses,
            chosen,
            timepoint=timepoint,
            hit_rule=hit_rule,
            msr=trend.attrs["msr"],
            msr_source=trend.attrs["msr_source"],
            seed=seed,
        ),
        "reference_trend": trend,
        "agreement": plate_agreement(normalized, own_curves, timepoint=timepoint),
        "batches": batch_effects(
            normalized, batches=batches if batches is not None else _days(acquired), timepoint=timepoint, seed=seed
        ),
        "combinations": fit_combinations(chosen, timepoint=timepoint, seed=seed),
        "control_charts": control_charts(
            dict(zip(names, quality, strict=True)), controls, trend=trend, acquired=acquired, timepoint=timepoint
        ),
    }
    for name, dataset in groups.items():
        write_result(target, name, dataset, provenance=made_from)
    return target


def open_campaign(paths: Sequence[Path]) -> xr.DataTree:
    """Open the results of many plates as one tree, lazily: tree["P001/fractions"].

    Parameters
    ----------
    paths
        Plates or their results stores; a campaign's own store may be among them.

    Returns
    -------
    DataTree
        A node for each store, named after it, and below it one for each result.

    Raises
    ------
    MissingInputError
        No store is given, or one is not there.
    StoreError
        Two stores have the same name.
    """
    stores = [results_path(Path(path)) for path in paths]
    if not stores:
        raise MissingInputError("A campaign needs at least one plate's results, none were given.")
    names = [path.name.removesuffix(SUFFIX) for path in stores]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise StoreError(f"Two stores are called {twice[0]}: {', '.join(map(str, stores))}. Rename one.")
    nodes: dict[str, xr.Dataset | xr.DataTree] = {}
    for path, name in zip(stores, names, strict=True):
        if not path.is_dir():
            raise MissingInputError(f"There are no results at {path}. Run `tomoscreen analyse` first.")
        groups = sorted(part.name for part in path.iterdir() if (part / "zarr.json").is_file())
        nodes[f"/{name}"] = xr.Dataset()
        for group in groups:
            nodes[f"/{name}/{group}"] = xr.open_dataset(
                str(path), group=group, engine="zarr", consolidated=False, chunks={}
            )
    return xr.DataTree.from_dict(nodes)


def _made_by(path: Path) -> dict[str, xr.Dataset]:
    """What tells how a plate was made, as far as it is there."""
    return {name: read_result(path, name) for name in ("probabilities", "normalized") if has_result(path, name)}


def _first_images(stores: list[Path], names: list[str]) -> dict[str, np.datetime64]:
    """When each plate's first field was imaged; NaT where the plate does not tell."""
    first = {}
    for path, name in zip(stores, names, strict=True):
        fields = read_result(path, "fields") if has_result(path, "fields") else xr.Dataset()
        times = fields["acquired"].values.astype("datetime64[ns]") if "acquired" in fields else np.array([], "M8[ns]")
        times = times[~np.isnat(times)]
        first[name] = times.min() if times.size else np.datetime64("NaT", "ns")
    return first


def _days(acquired: Mapping[str, np.datetime64]) -> dict[str, str]:
    """Day of each plate's first field; empty where not every plate tells."""
    if any(np.isnat(time) for time in acquired.values()):
        return {}
    return {name: str(time.astype("datetime64[D]")) for name, time in acquired.items()}


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
