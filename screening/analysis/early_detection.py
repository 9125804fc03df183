"""How many hours before annexin V and PI the label-free call says that cells die, per patch and per well."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from plates.errors import StoreError
from plates.layout.roles import roles
from plates.states import DEAD

from .lead_times import STATUSES, Lead, crossings, estimate_lead, first_calls, lead_table

_SAME_PLACE_UM = 0.5


def early_detection(
    probabilities: xr.Dataset,
    annotation: pd.DataFrame,
    layout: xr.Dataset,
    *,
    threshold: float = 0.2,
    called_dead: float = 0.5,
    stained: float = 0.5,
    confirm: int = 2,
    level: float = 0.95,
    draws: int = 400,
    seed: int = 0,
) -> xr.Dataset:
    """Lead of the label-free call over the markers, for every treated well and over the patches of every compound.

    A patch is called dead label-free where its three death probabilities add up to `called_dead`, and by the markers
    where cells positive for annexin V or PI cover at least `stained` of its cell area. A well reaches death where the
    share of its patches called so, over the vehicle wells' median as (x - v) / (1 - v), exceeds `threshold`. Patches
    are places, not cells: a cell that walks out of its patch takes its history with it, so frames should follow each
    other faster than cells walk through a patch.

    Parameters
    ----------
    probabilities, layout
        Groups of those names.
    annotation
        Table of annotated patches of the same plate: well, field, timepoint, y_um, x_um, area, positive. Only patches
        and frames in it are used.
    threshold
        Excess share of dead patches that counts as a well's death.
    confirm
        So many frames in a row must agree (`lead_times.first_calls`).
    level, draws, seed
        Of the intervals, over wells.

    Returns
    -------
    Dataset
        Group `early_detection`. (well, timepoint): `label_free_dead`, `marker_dead` (shares of the patches that both
        saw); (well): for `label_free` and `marker`, `_after`, `_until` (the two frames, h) and `_at`; `lead` by the
        crossings, `lead_low`, `lead_high` by the frames, `lead_status`. (group): `group_kind` (all, pathway,
        compound); for `patch_lead` and `well_lead` the median with `_low`, `_high`, quartiles `_q25`, `_q75`,
        `_status`, and `_n` by (group, lead_kind). Hours; positive where the label-free call is earlier.

    Raises
    ------
    StoreError
        The table is of other patches than the probabilities.
    """
    dead, pathway = _label_free(probabilities, called_dead)
    marker = _marker(probabilities, annotation, stained)
    both = np.isfinite(dead) & np.isfinite(marker)
    dead, marker = np.where(both, dead, np.nan), np.where(both, marker, np.nan)
    hours = probabilities.hours.values.astype(float)
    layout = layout.reindex(well=probabilities.well.values)
    role = roles(layout)
    treated = np.isin(role, ("none", "positive"))
    label_share, marker_share = (_share(values) for values in (dead, marker))  # (well, timepoint)
    label_wells, marker_wells = (
        crossings(hours, _excess(share, role == "negative"), threshold, confirm=confirm)
        for share in (label_share, marker_share)
    )
    wells = probabilities.well.values.astype(object)
    result = xr.Dataset(
        {
            "label_free_dead": (("well", "timepoint"), label_share, {"units": "1"}),
            "marker_dead": (("well", "timepoint"), marker_share, {"units": "1"}),
            **_of_wells(label_wells, marker_wells, treated),
        },
        coords={
            "well": wells,
            "timepoint": probabilities.timepoint.values,
            "hours": ("timepoint", hours, {"units": "h"}),
            "compound": ("well", layout["compound"].values.astype(object)),
            "dose": ("well", layout["dose"].values.astype(float), {"units": "uM"}),
        },
    )
    # (patch, timepoint), with each patch's well
    course, markers = (_patches(values, treated) for values in (dead, marker))
    kinds = _patches(pathway, treated)
    owner = np.repeat(np.flatnonzero(treated), course.shape[0] // max(int(treated.sum()), 1))
    label_first, marker_first = (first_calls(hours, values, confirm=confirm) for values in (course, markers))
    groups = _groups(label_first, kinds, hours, owner, treated=treated, compound=layout["compound"].values.astype(str))
    of_patches, of_wells = [], []
    exact_label, exact_marker = (_exact(table) for table in (label_wells, marker_wells))
    frames = lead_table(label_wells, marker_wells)
    for _, _, patches, members in groups:
        of_patches.append(
            estimate_lead(
                label_first[patches], marker_first[patches], wells[owner[patches]], level=level, draws=draws, seed=seed
            )
        )
        of_wells.append(
            estimate_lead(
                exact_label[members],
                exact_marker[members],
                wells[members],
                frames=frames[members],
                level=level,
                draws=draws,
                seed=seed,
            )
        )
    result = result.merge(_of_groups("patch_lead", of_patches)).merge(_of_groups("well_lead", of_wells))
    return result.assign_coords(
        group=np.array([name for name, *_ in groups], dtype=object),
        group_kind=("group", np.array([kind for _, kind, *_ in groups], dtype=object)),
        lead_kind=np.array(STATUSES, dtype=object),
    ).assign_attrs(
        level=level,
        threshold=threshold,
        rule=(
            f"label-free: death probabilities add up to {called_dead:g}; marker: stained cells cover {stained:g} of "
            f"the cell area; {confirm} frames in a row; a well's death: {threshold:g} of its patches over vehicle"
        ),
    )


def _label_free(probabilities: xr.Dataset, called_dead: float) -> tuple[np.ndarray, np.ndarray]:
    """Whether patches are called dead (NaN without cells), and pathways; (well, field, timepoint, py, px)."""
    dims = ("well", "field", "timepoint", "py", "px", "state")
    p = probabilities.probability.transpose(*dims).sel(state=list(DEAD)).values
    total = p.sum(axis=-1)
    known = np.isfinite(total)
    called = np.where(known, total >= called_dead, np.nan)
    return called, np.where(known, np.where(known[..., None], p, 0).argmax(axis=-1), -1)


def _marker(probabilities: xr.Dataset, annotation: pd.DataFrame, stained: float) -> np.ndarray:
    """Whether markers call a patch dead, on the patches of the probabilities."""
    shape = tuple(probabilities.sizes[name] for name in ("well", "field", "timepoint", "py", "px"))
    marker = np.full(shape, np.nan)
    if annotation.empty:
        return marker
    places = [
        pd.Index(probabilities[name].values.astype(kind)).get_indexer(pd.Index(annotation[name].astype(kind)))
        for name, kind in (("well", str), ("field", int), ("timepoint", int))
    ]
    for axis, column in (("py_um", "y_um"), ("px_um", "x_um")):
        centres = probabilities[axis].values.astype(float)
        own = annotation[column].to_numpy(float)
        if not centres.size:
            raise StoreError("The plate has no patches. Run `tomoscreen classify` first.")
        nearest = np.abs(own[:, None] - centres[None]).argmin(axis=1)
        away = np.abs(own - centres[nearest])
        places.append(np.where(away <= _SAME_PLACE_UM, nearest, -1))
    index = np.stack(places)
    found = np.asarray((index >= 0).all(axis=0))
    if not found.all():
        first = annotation.iloc[int(np.flatnonzero(~found)[0])]
        raise StoreError(
            f"{(~found).sum()} of {len(annotation)} annotated patches are none of the classified ones, the first of "
            f"well {first['well']}, field {first['field']}, timepoint {first['timepoint']} at ({first['y_um']}, "
            f"{first['x_um']}) um. Annotate and classify the same plate with the same stride."
        )
    positive = pd.to_numeric(annotation["positive"], errors="coerce").to_numpy(float)
    marker[tuple(index)] = np.where(np.isfinite(positive), positive >= stained, np.nan)
    return marker


def _share(called: np.ndarray) -> np.ndarray:
    """Share of a well's patches that are called; (well, timepoint), NaN without any."""
    flat = np.moveaxis(called, 2, 1).reshape(called.shape[0], called.shape[2], -1)
    number = np.isfinite(flat).sum(axis=-1)
    share = np.full(number.shape, np.nan)
    return np.asarray(np.divide(np.nansum(flat, axis=-1), number, out=share, where=number > 0))


def _excess(share: np.ndarray, vehicle: np.ndarray) -> np.ndarray:
    """Share over the vehicle wells' median; as it is where there are none."""
    controls = share[vehicle]
    held = np.isfinite(controls).any(axis=0) if len(controls) else np.zeros(share.shape[1], dtype=bool)
    centre = np.zeros(share.shape[1])
    if held.any():
        centre[held] = np.nanmedian(controls[:, held], axis=0)
    return np.asarray((share - centre) / np.where(centre < 1, 1 - centre, np.nan))


def _of_wells(label: pd.DataFrame, marker: pd.DataFrame, treated: np.ndarray) -> dict[str, tuple[object, ...]]:
    hours = {"units": "h"}
    leads = lead_table(label, marker)
    columns: dict[str, tuple[object, ...]] = {}
    for name, table in (("label_free", label), ("marker", marker)):
        for column in ("after", "until", "at"):
            columns[f"{name}_{column}"] = ("well", np.where(treated, table[column], np.nan), hours)
    columns["lead"] = ("well", np.where(treated, marker["at"] - label["at"], np.nan), hours)
    columns["lead_low"] = ("well", np.where(treated, leads["low"], np.nan), hours)
    columns["lead_high"] = ("well", np.where(treated, leads["high"], np.nan), hours)
    columns["lead_status"] = ("well", np.where(treated, leads["status"], "not_treated").astype(object))
    return columns


def _patches(values: np.ndarray, treated: np.ndarray) -> np.ndarray:
    """(well, field, timepoint, py, px) -> (patch, timepoint) of the treated wells, well by well."""
    return np.asarray(np.moveaxis(values[treated], 2, -1).reshape(-1, values.shape[2]))


def _exact(table: pd.DataFrame) -> pd.DataFrame:
    """Crossings as intervals without width, where the line between the two frames tells them."""
    known = table["at"].notna()
    return pd.DataFrame(
        {"after": table["after"].where(~known, table["at"]), "until": table["until"].where(~known, table["at"])}
    )


def _groups(
    first: pd.DataFrame,
    kinds: np.ndarray,
    hours: np.ndarray,
    owner: np.ndarray,
    *,
    treated: np.ndarray,
    compound: np.ndarray,
) -> list[tuple[str, str, np.ndarray, np.ndarray]]:
    """Name, kind, patches (bool) and wells (bool) of each group."""
    until = first["until"].to_numpy(float)
    frame = np.searchsorted(hours, np.where(np.isfinite(until), until, hours[-1] if hours.size else 0.0))
    pathway = np.where(np.isfinite(until), kinds[np.arange(len(kinds)), np.minimum(frame, kinds.shape[1] - 1)], -1)
    everything = np.ones(len(owner), dtype=bool)
    groups = [("all", "all", everything, treated)]
    nowhere = np.zeros_like(treated)
    groups += [(name, "pathway", pathway == number, nowhere) for number, name in enumerate(DEAD)]
    for name in dict.fromkeys(compound[treated]):
        members = treated & (compound == name)
        groups.append((str(name), "compound", members[owner], members))
    return groups


def _of_groups(name: str, leads: list[Lead]) -> xr.Dataset:
    hours = {"units": "h"}
    parts = {"": "median", "_low": "low", "_high": "high", "_q25": "quarter", "_q75": "three_quarters"}
    columns: dict[str, tuple[object, ...]] = {
        f"{name}{suffix}": ("group", np.array([getattr(lead, part) for lead in leads], dtype=float), hours)
        for suffix, part in parts.items()
    }
    columns[f"{name}_status"] = ("group", np.array([lead.status for lead in leads], dtype=object))
    counts = np.array([[lead.counts[status] for status in STATUSES] for lead in leads], dtype=int)
    columns[f"{name}_n"] = (("group", "lead_kind"), counts.reshape(len(leads), len(STATUSES)))
    return xr.Dataset(columns)
