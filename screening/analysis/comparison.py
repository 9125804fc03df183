"""Two analyses of the same plates side by side: what moved, and what was done differently."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from plates.results import has_result, read_result

from .agreement import agreement

COMPARED = ("probabilities", "layout", "exclusions", "quality", "dose_response", "ranking")
_CLASSIFIER = ("classifier", "classifier_sha256", "calibration", "temperature", "stride_px", "um_per_px")
_NOT_CAUSES = ("fingerprint", "inputs", "step", "plates")
_LAYOUT = ("compound", "dose", "control", "masked", "cell_line", "inducer")


def compare_analyses(
    first: Path | Mapping[str, xr.Dataset],
    second: Path | Mapping[str, xr.Dataset],
    *,
    least_ratio: float = 1.05,
) -> xr.Dataset:
    """Say for each compound what moved from the first analysis to the second, and what differs between the two.

    Causes are read from what the results say of their making: settings and versions in their provenance, the
    classifier, the plate map, exclusions. What is only known to differ, because the probabilities are others, is
    said so. Where several things differ at once, the results cannot tell their parts; change one at a time.

    Parameters
    ----------
    first, second
        Results stores of a plate or a campaign, or their results by name; `ranking` is needed, of the others
        (`COMPARED`) what is there.
    least_ratio
        EC50s that differ by less have not moved.

    Returns
    -------
    Dataset
        Group `comparison`. (compound): `rank`, `status`, `ec50`, `ec50_low`, `ec50_high`, `emax`, `hit`, `wells`
        (treated wells fitted), each `_first` and `_second`; `ec50_ratio` (second over first), `moved` (bool), `what`
        (in words, "" where nothing moved), `outside` (the second EC50 lies outside the first one's interval);
        `attrs["causes"]`, a line each, `attrs["summary"]`.

    Raises
    ------
    MissingInputError
        An analysis has no ranking.
    """
    one, other = (_results(part) for part in (first, second))
    tables = [_table(part) for part in (one, other)]
    names = list(dict.fromkeys([*tables[0].index, *tables[1].index]))
    both = [table.reindex(names) for table in tables]
    causes = differing_causes(one, other)
    ratio = _ratio(both[0]["ec50"].to_numpy(float), both[1]["ec50"].to_numpy(float))
    what = [_moved(both[0].iloc[k], both[1].iloc[k], float(ratio[k]), least_ratio) for k in range(len(names))]
    columns: dict[str, tuple[str, np.ndarray]] = {}
    for column in both[0].columns:
        for suffix, table in zip(("first", "second"), both, strict=True):
            text = column in ("status", "hit")
            values = table[column].where(table[column].notna(), "") if text else table[column]
            columns[f"{column}_{suffix}"] = ("compound", values.to_numpy(object if text else float))
    low, high, second_ec50 = (
        both[k][name].to_numpy(float) for k, name in ((0, "ec50_low"), (0, "ec50_high"), (1, "ec50"))
    )
    with np.errstate(invalid="ignore"):
        outside = (second_ec50 < low) | (second_ec50 > high)
    moved = np.array([bool(text) for text in what], dtype=bool)
    result = xr.Dataset(
        {
            **columns,
            "ec50_ratio": ("compound", ratio),
            "outside": ("compound", outside),
            "moved": ("compound", moved),
            "what": ("compound", np.array(what, dtype=object)),
        },
        coords={"compound": np.array(names, dtype=object)},
        attrs={
            "causes": "\n".join(causes),
            "summary": _summary(names, moved, outside, causes, both),
        },
    )
    for name in ("ec50", "ec50_low", "ec50_high"):
        for suffix in ("first", "second"):
            result[f"{name}_{suffix}"].attrs["units"] = "uM"
    return result


def differing_causes(first: Mapping[str, xr.Dataset], second: Mapping[str, xr.Dataset]) -> list[str]:
    """What was done differently, a sentence each: settings, versions, classifier, plate map, exclusions, inputs."""
    causes = []
    for name in ("ranking", "dose_response", "quality"):
        if name in first and name in second:
            made = [_provenance(part[name]) for part in (first, second)]
            causes += [
                f"setting {line}" if not line.startswith("version") else line for line in _changes(made[0], made[1])
            ]
            break
    if "probabilities" in first and "probabilities" in second:
        attrs = [{key: part["probabilities"].attrs.get(key) for key in _CLASSIFIER} for part in (first, second)]
        changes = _changes(attrs[0], attrs[1])
        causes += [f"classification: {line}" for line in changes]
        if not changes and not _same(first["probabilities"], second["probabilities"]):
            causes.append("inputs: the probabilities differ, made by the same classifier from other images or fields")
    elif "ranking" in first and "ranking" in second and not causes:
        inputs = [_provenance(part["ranking"]).get("inputs") for part in (first, second)]
        if inputs[0] != inputs[1]:
            causes.append("inputs: probabilities, plate map or plates differ; the stores do not say how")
    if "layout" in first and "layout" in second:
        causes += _layout_changes(first["layout"], second["layout"])
    lists = [_excluded(part.get("exclusions")) for part in (first, second)]
    causes += [f"exclusions: no longer left out: {text}" for text in lists[0] if text not in lists[1]]
    causes += [f"exclusions: left out: {text}" for text in lists[1] if text not in lists[0]]
    return causes


def _results(part: Path | Mapping[str, xr.Dataset]) -> Mapping[str, xr.Dataset]:
    if isinstance(part, Mapping):
        return part
    path = Path(part)
    return {"ranking": read_result(path, "ranking")} | {
        name: read_result(path, name) for name in COMPARED if name != "ranking" and has_result(path, name)
    }


def _table(results: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    ranking = results["ranking"]
    names = [str(name) for name in ranking.compound.values]
    columns = ("rank", "status", "ec50", "ec50_low", "ec50_high", "emax", "hit")
    table = pd.DataFrame(
        {column: ranking[column].values if column in ranking else np.nan for column in columns}, index=names
    )
    # text in stores of different versions
    table["hit"] = [("yes" if value else "no") if isinstance(value, bool | np.bool_) else "" for value in table["hit"]]
    wells = pd.Series(np.nan, index=names)
    if "dose_response" in results and "response" in results["dose_response"]:
        death = results["dose_response"].sel(readout="death")
        number = np.isfinite(death["response"].values).sum(axis=(-2, -1))
        wells = pd.Series(number, index=[str(name) for name in death.compound.values]).reindex(names)
    return table.assign(wells=wells.astype(float))


def _ratio(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Second over first where both are EC50s inside what was tested; NaN else."""
    known = np.isfinite(first) & np.isfinite(second) & (first > 0) & (second > 0)
    return np.asarray(np.divide(second, first, out=np.full(first.shape, np.nan), where=known))


def _moved(first: pd.Series, second: pd.Series, ratio: float, least: float) -> str:
    if pd.isna(first["rank"]) or pd.isna(second["rank"]):
        return "only in the second analysis" if pd.isna(first["rank"]) else "only in the first analysis"
    parts = []
    if first["status"] != second["status"]:
        parts.append(f"{first['status']} became {second['status']}")
    if np.isfinite(ratio) and max(ratio, 1 / ratio) >= least:
        parts.append(f"EC50 x {ratio:.3g}")
    if int(first["rank"]) != int(second["rank"]):
        parts.append(f"rank {int(first['rank'])} to {int(second['rank'])}")
    if first["hit"] != second["hit"] and first["hit"] and second["hit"]:
        parts.append("a hit now" if second["hit"] == "yes" else "no hit any more")
    if np.isfinite(first["wells"]) and np.isfinite(second["wells"]) and first["wells"] != second["wells"]:
        parts.append(f"{int(first['wells'])} wells, now {int(second['wells'])}")
    return ", ".join(parts)


def _provenance(dataset: xr.Dataset) -> dict[str, Any]:
    text = dataset.attrs.get("provenance", "{}")
    try:
        record: dict[str, Any] = json.loads(text)
    except (TypeError, ValueError):
        return {}
    return {key: value for key, value in record.items() if key not in _NOT_CAUSES or key == "inputs"}


def _changes(first: Mapping[str, Any], second: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Keys whose values differ, "key: old -> new", nested ones with a point."""
    lines = []
    for key in sorted({*first, *second}):
        if key in _NOT_CAUSES:
            continue
        old, new = first.get(key), second.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            lines += _changes(old, new, f"{prefix}{key}.")
        elif not _equal(old, new):
            lines.append(f"{prefix}{key}: {_shown(old)} -> {_shown(new)}")
    return lines


def _equal(old: Any, new: Any) -> bool:
    return bool(np.array_equal(np.asarray(old, dtype=object), np.asarray(new, dtype=object)))


def _shown(value: Any) -> str:
    text = "not set" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:12]}…"


def _same(first: xr.Dataset, second: xr.Dataset) -> bool:
    a, b = first["probability"], second["probability"]
    return bool(a.shape == b.shape and np.array_equal(a.values, b.values, equal_nan=True))


def _layout_changes(first: xr.Dataset, second: xr.Dataset) -> list[str]:
    tables = []
    for layout in (first, second):
        tables.append(
            pd.DataFrame(
                {name: layout[name].values for name in _LAYOUT if name in layout},
                index=[str(name) for name in layout.well.values],
            )
        )
    one, other = tables
    lines = []
    for what, gone in (
        ("only in the first", one.index.difference(other.index)),
        ("new", other.index.difference(one.index)),
    ):
        if len(gone):
            lines.append(f"plate map: {len(gone)} wells {what}: {', '.join(gone[:5])}")
    shared = one.index.intersection(other.index)
    for column in sorted(set(one.columns) & set(other.columns)):
        a, b = one.loc[shared, column], other.loc[shared, column]
        differ = ~((a == b) | (a.isna() & b.isna()))
        if differ.any():
            places = list(shared[differ])
            shown = f"{places[0]} {_shown(a[places[0]])} -> {_shown(b[places[0]])}"
            lines.append(f"plate map: {column} of {len(places)} wells: {shown}{', ...' if len(places) > 1 else ''}")
    return lines


def _excluded(record: xr.Dataset | None) -> list[str]:
    if record is None:
        return []
    rows = []
    for k in range(record.sizes.get("exclusion", 0)):
        one = {
            name: record[name].values[k] for name in ("plate", "well", "field", "timepoint", "reason", "name", "date")
        }
        part = "".join(f" {dim} {int(one[dim])}" for dim in ("field", "timepoint") if int(one[dim]) >= 0)
        rows.append(f"{one['plate']} {one['well']}{part} ({one['reason']}; {one['name']}, {one['date']})")
    return rows


def _summary(
    names: list[str], moved: np.ndarray, outside: np.ndarray, causes: list[str], both: list[pd.DataFrame]
) -> str:
    ranks = pd.concat([table["rank"] for table in both], axis=1).dropna()
    rho = agreement(*ranks.to_numpy(float).T)["spearman"]
    order = f" Rank correlation {rho:.3f}." if isinstance(rho, float) and np.isfinite(rho) else ""
    if not moved.any():
        found = "nothing moved" if not causes else "nothing moved although the analyses differ"
        return f"{len(names)} compounds, {found}."
    why = (
        "The stores hold no difference that explains it."
        if not causes
        else "One thing differs."
        if len(causes) == 1
        else f"{len(causes)} things differ at once; their parts cannot be told apart."
    )
    return (
        f"{int(moved.sum())} of {len(names)} compounds moved, {int(outside.sum())} to an EC50 outside the first "
        f"interval.{order} {why}"
    )
