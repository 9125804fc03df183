"""What a campaign's page tells of each of its plates, read from the results that lie beside the campaign's."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from markupsafe import Markup

from plates.results import has_result, read_result, result_attributes

from .alerts import Alert, cell_lines
from .plate_maps import colour_scale
from .words import plain

# what tells how a plate was made: attribute of `probabilities`, and what it is called in an alert
MADE_ALIKE = {
    "classifier_sha256": "classifiers",
    "calibration": "calibrations",
    "version": "versions of tomoscreen",
    "voxel": "voxel sizes",
    "patches": "patch sizes or distances",
}
FORMATS = ((2, 3), (3, 4), (4, 6), (6, 8), (8, 12), (16, 24), (32, 48))
SHADES = 20  # steps of colour in a small plate


def plates_of(plates: xr.Dataset, campaign_results: Path) -> list[dict[str, Any]]:
    """Read one row a plate: how it was made, its wells, its exclusions and a small picture; parts not there are empty.

    A plate's results are looked for beside the campaign's, then where they lay when the campaign was made.

    Returns
    -------
    list of dict
        `plate`, `made` (None where its probabilities are gone), `settings` of its analysis, `wells`, `excluded`,
        `ledger` (one dict a line), `picture`.
    """
    return [
        _plate(str(name), store_of(str(name), str(path), campaign_results))
        for name, path in zip(plates["plate"].values, plates["path"].values, strict=True)
    ]


def store_of(name: str, path: str, campaign_results: Path) -> Path:
    """Where a plate's results lie: beside the campaign's, or where they were when it was made."""
    near = campaign_results.with_name(f"{name}.results.zarr")
    return near if near.exists() else Path(path)


def differences(rows: Sequence[Mapping[str, Any]], *, mixed: str = "") -> list[Alert]:
    """Say where plates were not made alike; a campaign that mixes classifiers says so before anything else.

    Parameters
    ----------
    rows
        As `plates_of` gives them.
    mixed
        What the campaign itself found when it put the plates together, a sentence a line.
    """
    alerts = [Alert("failure", sentence, "differences") for sentence in mixed.splitlines() if sentence.strip()]
    made = {row["plate"]: row["made"] for row in rows if row["made"]}
    for key, what in MADE_ALIKE.items():
        groups = _groups({name: str(card[key]) for name, card in made.items()})
        if len(groups) > 1 and not alerts:
            told = "; ".join(f"{plain(value, longest=24)} ({_some(names)})" for value, names in groups.items())
            alerts.append(Alert("failure", f"The plates have different {what}: {told}.", "differences"))
    changed = changed_settings(rows)
    if changed:
        listed = ", ".join(key for key, _ in changed)
        alerts.append(Alert("warning", f"The plates were analysed with different settings: {listed}.", "differences"))
    return alerts


def changed_settings(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Settings of the analysis that differ between plates: name, then each value with the plates that have it."""
    told = {row["plate"]: row["settings"] for row in rows if row["settings"]}
    keys = sorted({key for settings in told.values() for key in settings})
    found = []
    for key in keys:
        groups = _groups({name: json.dumps(settings.get(key), default=str) for name, settings in told.items()})
        if len(groups) > 1:
            found.append((key, [(value, _some(names)) for value, names in groups.items()]))
    return found


def small_plate(layout: xr.Dataset, death: np.ndarray, *, label: str) -> Markup:
    """A plate in the size of a stamp: death in every well, a stroke through wells that were not measured.

    Parameters
    ----------
    layout
        A stored result that carries `row`, `column` over its wells, in the order of `death`.
    death
        One fraction a well, NaN where nothing was measured.
    """
    rows, columns = _format(layout)
    shades = colour_scale()[:: 100 // SHADES]
    at = list(zip(layout["row"].values.tolist(), layout["column"].values.tolist(), strict=True))
    drawn: dict[str, list[str]] = {}
    gone = []
    for (row, column), value in zip(at, death, strict=True):
        if np.isfinite(value):
            shade = shades[round(float(np.clip(value, 0, 1)) * SHADES)]
            drawn.setdefault(shade, []).append(f"M{column} {row}.5h1")
        else:
            gone.append(f"M{column}.2 {row}.8l.6-.6")
    parts = [f'<path d="{"".join(paths)}" stroke="{shade}"/>' for shade, paths in sorted(drawn.items())]
    if gone:
        parts.append(f'<path d="{"".join(gone)}" stroke="#5b6875" stroke-width=".15"/>')
    head = Markup('<svg class="stamp" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(columns, rows, label)
    # the parts are numbers and colours
    return head + Markup("".join(parts) + "</svg>")


def _plate(name: str, store: Path) -> dict[str, Any]:
    row: dict[str, Any] = {
        "plate": name, "made": None, "settings": {}, "wells": 0, "excluded": 0, "ledger": [], "picture": "",
    }  # fmt: skip
    if not has_result(store, "layout"):
        return row
    layout = read_result(store, "layout")
    if has_result(store, "probabilities"):
        row["made"] = _made(result_attributes(store, "probabilities"), layout)
    seen = next((group for group in ("normalized", "fractions") if has_result(store, group)), "")
    if seen:
        result = read_result(store, seen)
        row["settings"] = _record(result.attrs).get("settings", {})
        masked = result["masked"].values if "masked" in result.variables else np.full(result.sizes["well"], "")
        row["wells"], row["excluded"] = result.sizes["well"], int((masked != "").sum())
        row["ledger"] += [
            {"plate": name, "well": str(well), "part": "well", "reason": str(why), "by": "", "date": ""}
            for well, why in zip(result["well"].values, masked, strict=True)
            if why
        ]
        if "death" not in result and has_result(store, "fractions"):
            result = read_result(store, "fractions")
        if "death" in result:
            reading = int(result.sizes["timepoint"]) - 1
            if has_result(store, "dose_response"):
                stored = int(result_attributes(store, "dose_response").get("timepoint", -1))
                reading = stored if 0 <= stored <= reading else reading
            death = result["death"].transpose("well", "timepoint").values[:, reading]
            row["picture"] = small_plate(
                result, death, label=f"Death on plate {plain(name)}, {np.isfinite(death).sum()} wells measured"
            )
    if has_result(store, "exclusions"):
        row["ledger"] = _ledger(read_result(store, "exclusions"), row["ledger"])
    return row


def _made(attrs: Mapping[str, Any], layout: xr.Dataset) -> dict[str, Any]:
    voxel = attrs.get("resampled_from_um", attrs.get("um_per_px", ""))
    return {
        **{key: str(attrs.get(key, "")) for key in ("classifier", "classifier_sha256", "trained_on", "calibration")},
        "version": str(_record(attrs).get("version", "not recorded")),
        "voxel": _numbers(voxel),
        "patches": " px every ".join(_numbers(attrs[key]) for key in ("patch_px", "stride_px") if key in attrs),
        "cell_lines": cell_lines(layout),
        **{key: str(layout.attrs.get(key, "")) for key in ("source", "sha256")},
    }


def _ledger(exclusions: xr.Dataset, masked: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """The decisions of the file of exclusions with name and day, then wells that the plate map itself leaves out."""
    lines = []
    for index in range(exclusions.sizes.get("exclusion", 0)):
        one = {str(key): exclusions[key].values[index] for key in exclusions if exclusions[key].dims == ("exclusion",)}
        part = ", ".join(f"{key} {int(one[key])}" for key in ("field", "timepoint") if int(one[key]) >= 0)
        lines.append(
            {"plate": str(one["plate"]), "well": str(one["well"]), "part": part or "well",
             "reason": str(one["reason"]), "by": str(one["name"]), "date": str(one["date"])}
        )  # fmt: skip
    told = {line["well"] for line in lines if line["part"] == "well"}
    return lines + [line for line in masked if line["well"] not in told]


def _record(attrs: Mapping[str, Any]) -> dict[str, Any]:
    stored = attrs.get("provenance", "{}")
    return dict(json.loads(stored) if isinstance(stored, str) else stored)


def _numbers(value: Any) -> str:
    if isinstance(value, list | tuple | np.ndarray):
        return " x ".join(f"{float(part):g}" for part in value)
    return f"{float(value):g}" if isinstance(value, int | float | np.number) else str(value)


def _groups(values: Mapping[str, str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name, value in values.items():
        groups.setdefault(value, []).append(name)
    return dict(sorted(groups.items(), key=lambda item: -len(item[1])))


def _some(names: Sequence[str], most: int = 4) -> str:
    return ", ".join(plain(name) for name in names[:most]) + (
        f" and {len(names) - most} more" if len(names) > most else ""
    )


def _format(layout: xr.Dataset) -> tuple[int, int]:
    """The smallest plate that holds the wells."""
    rows, columns = int(layout["row"].values.max(initial=0)) + 1, int(layout["column"].values.max(initial=0)) + 1
    return next((size for size in FORMATS if size[0] >= rows and size[1] >= columns), (rows, columns))
