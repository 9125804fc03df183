"""A plate as full as the budgets of the page speak of: 384 wells, 24 timepoints, 40 compounds, every stored result."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from plates.creation import create_plate
from plates.results import write_result
from plates.states import DEAD, STATES

ROWS, COLUMNS, FRAMES = 16, 24, 24
DOSES = np.geomspace(0.03, 30, 8)
HOURS = np.arange(FRAMES) * 2.0
PIXELS, MICROMETRES, PATCH, STRIDE = 640, 0.16, 160, 80
READOUTS = ("death", *STATES)


def write_full_plate(
    folder: Path, *, name: str = "P384", compounds: int = 40, frames: int = FRAMES, images: int = 96, seed: int = 0,
    names: list[str] | None = None, excluded: bool = True,
) -> Path:  # fmt: skip
    """Write the plate and return its path: each compound at 8 doses, columns 1 and 24 vehicle and positive controls."""
    rng = np.random.default_rng(seed)
    named = names or [f"compound {number:02d}" for number in range(1, compounds + 1)]
    layout = _layout(named)
    hours = HOURS[:frames]
    fractions = _fractions(layout, hours, named, rng)
    probabilities = _probabilities(fractions, rng)
    fits = _fits(named, fractions, rng)
    record = {"version": "0.2.0", "settings": {"seed": seed, "ssmd_min": 3.0, "controls_min": 4, "patches_min": 10}}
    results = {
        "layout": layout,
        "fields": _fields(probabilities, rng),
        "probabilities": probabilities,
        "fractions": fractions,
        "quality": _quality(layout, hours, rng, name),
        "dose_response": fits,
        "ranking": _ranking(named, fits),
        "kinetics": _kinetics(named, hours),
        "pathways": _pathways(named),
        "spatial": _spatial(hours, rng),
        "drift": _drift(hours, rng),
        "layout_check": _layout_check(),
        "field_quality": _field_quality(probabilities),
        "exclusions": _exclusions(name, named, excluded),
    }
    path = folder / f"{name}.zarr"
    for key, dataset in results.items():
        write_result(path, key, dataset, provenance=record)
    _write_images(path, name, layout, list(results["ranking"]["compound"].values), hours, images, rng)
    return path


def _layout(named: list[str]) -> xr.Dataset:
    wells = [(row, column) for row in range(ROWS) for column in range(COLUMNS)]
    treated = [(compound, dose) for compound in named for dose in DOSES]
    inducers = {"apoptosis": "anti-CD95", "necroptosis": "TNF/SM/zVAD", "necrosis": "NaOH"}
    entries, rest = [], iter(treated)
    for row, column in wells:
        if column in (0, 1):
            entries.append(("DMSO", 0.0, "negative", ""))
        elif column in (22, 23):
            state = DEAD[row % 3]
            entries.append((inducers[state], 1.0, "positive", state))
        else:
            compound, dose = next(rest, ("", 0.0))
            entries.append((compound, dose, "none" if compound else "empty", ""))
    kept = [index for index, entry in enumerate(entries) if entry[2] != "empty"]
    columns = list(zip(*[entries[index] for index in kept], strict=True))
    places = [wells[index] for index in kept]
    return xr.Dataset(
        {
            "compound": ("well", np.array(columns[0], dtype=object)),
            "dose": ("well", np.array(columns[1]), {"units": "uM"}),
            "control": ("well", np.array(columns[2], dtype=object)),
            "inducer": ("well", np.array(columns[3], dtype=object)),
            "cell_line": ("well", np.array(["HeLa"] * len(kept), dtype=object)),
            "replicate": ("well", np.ones(len(kept), dtype=int)),
            "masked": ("well", np.array([""] * len(kept), dtype=object)),
            "line": ("well", np.arange(2, len(kept) + 2)),
            "row": ("well", np.array([row for row, _ in places])),
            "column": ("well", np.array([column for _, column in places])),
        },
        coords={"well": np.array([f"{chr(65 + row)}{column + 1:02d}" for row, column in places], dtype=object)},
        attrs={"source": "P384_map.csv", "sha256": "ab" * 32, "dose_unit": "uM"},
    )


def _truth(place: int) -> tuple[float, float, str]:
    """EC50 (uM), highest death and pathway of a compound by its place in the list."""
    ec50 = (0.4, 2.0, 6.0, 60.0, 1.2, 1e9, 0.15, 4.0)[place % 8]
    return ec50, (0.9, 0.85, 0.95, 0.8, 0.6, 0.0, 0.9, 0.5)[place % 8], DEAD[place % 3]


def _fractions(layout: xr.Dataset, hours: np.ndarray, named: list[str], rng: np.random.Generator) -> xr.Dataset:
    wells = layout.sizes["well"]
    ceiling, lead = np.full(wells, 0.02), np.zeros(wells, dtype=int)
    for well in range(wells):
        control, compound = layout["control"].values[well], layout["compound"].values[well]
        if control == "positive":
            ceiling[well], lead[well] = 0.92, DEAD.index(layout["inducer"].values[well])
        elif control == "none":
            ec50, top, pathway = _truth(named.index(compound))
            ceiling[well] = top / (1 + (ec50 / layout["dose"].values[well]) ** 1.4)
            lead[well] = DEAD.index(pathway)
    rise = 1 - np.exp(-hours / 10)
    death = np.clip(0.03 + ceiling[:, None] * rise + rng.normal(0, 0.015, (wells, len(hours))), 0.001, 0.99)
    weights = np.full((wells, 3), 0.08)
    weights[np.arange(wells), lead] = 0.84
    treated = np.where(layout["control"].values == "negative", 0.15, 0.3 + 0.5 * ceiling)[:, None]
    share = np.concatenate(
        [death[..., None] * weights[:, None], (1 - death)[..., None] * np.stack([1 - treated, treated], axis=-1)],
        axis=2,
    )
    dims = ("well", "timepoint", "state")
    patches = rng.integers(40, 98, death.shape)
    made = xr.Dataset(
        {
            "fraction": (dims, share), "fraction_low": (dims, np.clip(share - 0.05, 0, 1)),
            "fraction_high": (dims, np.clip(share + 0.05, 0, 1)),
            "count": (dims, np.rint(share * patches[..., None]).astype(int)),
            "death": (dims[:2], death), "death_low": (dims[:2], np.clip(death - 0.06, 0, 1)),
            "death_high": (dims[:2], np.clip(death + 0.06, 0, 1)), "patches": (dims[:2], patches),
            "fields_used": (dims[:2], np.full(death.shape, 2)),
            "confluency": (dims[:2], np.full(death.shape, 0.45)),
            "live_of_seeded": (dims[:2], np.clip(1 - death - 0.2 * ceiling[:, None] * rise, 0, 1)),
        },
        coords={"well": layout["well"], "timepoint": np.arange(len(hours)), "state": np.array(STATES, dtype=object),
                "hours": ("timepoint", hours)},
    )  # fmt: skip
    return made.assign_coords({name: layout[name] for name in layout.data_vars if name != "line"})


def _probabilities(fractions: xr.Dataset, rng: np.random.Generator) -> xr.Dataset:
    side = (PIXELS - PATCH) // STRIDE + 1
    wells, times = fractions.sizes["well"], fractions.sizes["timepoint"]
    shape = (wells, 1, times, side, side)
    target = fractions["fraction"].values[:, None, :, None, None, :].astype("float32")
    chosen = np.argmax(np.log(target + 1e-9) + rng.gumbel(size=(*shape, 5)), axis=-1)
    values = rng.gamma(0.4, 1, (*shape, 5)).astype("float32")
    np.put_along_axis(values, chosen[..., None], 6 + values.max(axis=-1, keepdims=True), axis=-1)
    values /= values.sum(axis=-1, keepdims=True)
    values[rng.random(shape) < 0.25] = np.nan
    dims = ("well", "field", "timepoint", "py", "px")
    centres = (PATCH / 2 + STRIDE * np.arange(side)) * MICROMETRES
    return xr.Dataset(
        {"probability": ((*dims, "state"), values), "status": (dims[:3], np.ones(shape[:3], dtype="int8"))},
        coords={"well": fractions["well"].values, "field": [0], "timepoint": fractions["timepoint"].values,
                "state": np.array(STATES, dtype=object), "hours": ("timepoint", fractions["hours"].values),
                "py_um": ("py", centres), "px_um": ("px", centres)},
        attrs={"classifier": "full-resnet18", "classifier_sha256": "3f" * 32, "temperature": 1.31,
               "calibration": "temperature 1.31 from 3379 patches of 102 validation wells",
               "trained_on": "HeLa, 12 plates of 2025", "patch_um": PATCH * MICROMETRES, "patch_px": PATCH,
               "stride_px": STRIDE, "foreground_index": 0.0054, "foreground_share": 0.05, "uncertain_below": 0.62,
               "uncertain_share": 0.04, "uncertain_expected": 0.05},
    )  # fmt: skip


def _fields(probabilities: xr.Dataset, rng: np.random.Generator) -> xr.Dataset:
    shape, dims = probabilities["status"].shape, ("well", "field", "timepoint")
    start = np.datetime64("2026-03-02T09:00:00", "ns")
    seconds = 20 * np.arange(shape[0])[:, None, None] + 7200 * np.arange(shape[2])[None, None, :]
    return xr.Dataset(
        {"medium_index": (dims, np.full(shape, 1.337)), "status": (dims, probabilities["status"].values),
         "focus": (dims, rng.normal(0.6, 0.1, shape)), "confluency": (dims, rng.normal(0.45, 0.05, shape)),
         "acquired": (dims, start + np.broadcast_to(seconds, shape).astype("timedelta64[s]"))},
        coords={key: probabilities[key] for key in dims},
    )  # fmt: skip


def _quality(layout: xr.Dataset, hours: np.ndarray, rng: np.random.Generator, name: str) -> xr.Dataset:
    shape, dims = (len(READOUTS), len(hours)), ("readout", "timepoint")
    rising = np.linspace(-2.4, 0.74, len(hours)) + rng.normal(0, 0.02, shape)
    names = ("z_prime", "robust_z_prime", "ssmd", "robust_ssmd", "signal_window", "signal_to_background")
    values: dict[str, tuple[tuple[str, str], np.ndarray]] = {}
    for factor, key in enumerate(names, start=1):
        values |= {f"{key}{end}": (dims, rising * factor + shift) for end, shift in
                   (("", 0.0), ("_low", -0.1), ("_high", 0.1))}  # fmt: skip
    wells = layout.sizes["well"]
    strange = np.zeros(wells, dtype=bool)
    strange[1] = True
    return xr.Dataset(
        values
        | {"cv_negative": (dims, np.full(shape, 12.0)), "reason": (dims, np.full(shape, "", dtype=object)),
           "n_negative": (dims, np.full(shape, 32)), "n_positive": (dims, np.full(shape, 32)),
           "flags": ("well", np.array(["few_patches" if well == 60 else "" for well in range(wells)], dtype=object)),
           "few_patches": (("well", "timepoint"), np.zeros((wells, len(hours)), dtype=bool)),
           "strange_control": ("well", strange)},
        coords={"readout": np.array(READOUTS, dtype=object), "timepoint": np.arange(len(hours)),
                "well": layout["well"].values},
        attrs={"verdict": "REVIEW", "rule": "Robust Z' of death: REVIEW below 0.5. Otherwise PASS.", "plate": name,
               "reasons": json.dumps(["Death depends on the place of vehicle wells: columns differ."]),
               "z_prime_limit": 0.5},
    )  # fmt: skip


def _fits(named: list[str], fractions: xr.Dataset, rng: np.random.Generator) -> xr.Dataset:
    readouts, points = np.array(["death", *DEAD], dtype=object), 61
    shape = (len(named), 4)
    keys = ("ec50", "ec50_low", "ec50_high", "bottom", "top", "hill", "emax", "emax_low", "emax_high", "p_value")
    values = {key: np.full(shape, np.nan) for key in keys}
    status, curve = np.full(shape, "no_effect", dtype=object), np.full((*shape, points), np.nan)
    doses = np.broadcast_to(DOSES[:, None], (len(named), len(DOSES), 1)).copy()
    response = np.full((len(named), 4, len(DOSES), 1), np.nan)
    well = np.full(doses.shape, "", dtype=object)
    grid = np.geomspace(DOSES[0], DOSES[-1], points)
    final = fractions.isel(timepoint=-1)
    for i, name in enumerate(named):
        ec50, top, pathway = _truth(i)
        mine = np.flatnonzero(final["compound"].values == name)
        mine = mine[np.argsort(final["dose"].values[mine])]
        well[i, :, 0] = final["well"].values[mine]
        for j, readout in enumerate(readouts):
            height = top * (1.0 if readout == "death" else 0.84 if readout == pathway else 0.08)
            one = final["death"].values if readout == "death" else final["fraction"].sel(state=readout).values
            response[i, j, :, 0] = one[mine] - 0.03
            values["emax"][i, j] = height / (1 + (ec50 / DOSES[-1]) ** 1.4)
            values["emax_low"][i, j], values["emax_high"][i, j] = values["emax"][i, j] + np.array([-0.05, 0.05])
            values["p_value"][i, j] = 0.6 if height < 0.1 else 1e-6
            if height < 0.1:
                continue
            inside = ec50 < DOSES[-1]
            noisy = ec50 * np.exp(rng.normal(0, 0.08))
            status[i, j] = "quantified" if inside else "above_range"
            values["ec50"][i, j] = noisy if inside else np.inf
            values["ec50_low"][i, j], values["ec50_high"][i, j] = (
                (noisy / 1.4, noisy * 1.4) if inside else (24.0, np.inf)
            )
            values["hill"][i, j], values["bottom"][i, j], values["top"][i, j] = 1.4, 0.0, height
            curve[i, j] = height / (1 + (noisy / grid) ** 1.4)
    dims = ("compound", "readout")
    point = ("compound", "dose_index", "replicate")
    return xr.Dataset(
        {**{key: (dims, value) for key, value in values.items()}, "status": (dims, status),
         "note": (dims, np.full(shape, "", dtype=object)), "dose": (point, doses), "well": (point, well),
         "response": (("compound", "readout", "dose_index", "replicate"), response),
         "plate": (point, np.full(doses.shape, "P384", dtype=object)),
         "curve_dose": ((*dims, "curve_point"), np.broadcast_to(grid, curve.shape).copy()),
         "curve": ((*dims, "curve_point"), curve), "curve_low": ((*dims, "curve_point"), curve - 0.06),
         "curve_high": ((*dims, "curve_point"), curve + 0.06)},
        coords={"compound": np.array(named, dtype=object), "readout": readouts},
        attrs={"timepoint": fractions.sizes["timepoint"] - 1, "hours": float(fractions["hours"].values[-1])},
    )  # fmt: skip


def _ranking(named: list[str], fits: xr.Dataset) -> xr.Dataset:
    death = fits.sel(readout="death", drop=True)
    keys = ("ec50", "ec50_low", "ec50_high", "emax", "emax_low", "emax_high", "status")
    order = np.lexsort((-death["emax"].values, np.nan_to_num(death["ec50_high"].values, nan=np.inf)))
    ranking = death[list(keys)].isel(compound=order)
    truth = [_truth(named.index(name)) for name in ranking["compound"].values]
    kills = np.array([top > 0.1 for _, top, _ in truth])
    number = len(named)
    return ranking.assign(
        rank=("compound", np.arange(1, number + 1)),
        dominant_pathway=("compound", np.array([t[2] if t[1] > 0.1 else "" for t in truth], dtype=object)),
        dominant_share=("compound", np.where(kills, 0.84, np.nan)),
        dominant_share_low=("compound", np.where(kills, 0.78, np.nan)),
        dominant_share_high=("compound", np.where(kills, 0.9, np.nan)),
        dominant_tied=("compound", np.zeros(number, dtype=bool)),
        second_pathway=("compound", np.array(["necrosis"] * number, dtype=object)),
        t_half=("compound", np.where(kills, 7.2, np.nan)),
        t_half_low=("compound", np.where(kills, 6.0, np.nan)),
        t_half_high=("compound", np.where(kills, 8.6, np.nan)),
        t_half_status=("compound", np.array(["timed" if one else "no_effect" for one in kills], dtype=object)),
        score=("compound", np.arange(number, dtype=float)),
    )


def _kinetics(named: list[str], hours: np.ndarray) -> xr.Dataset:
    shape = (len(named), len(DOSES))
    top = np.array([_truth(place)[1] for place in range(len(named))])
    t50 = np.where(top[:, None] > 0.55, np.linspace(20, 8, len(DOSES))[None, :], np.nan) * np.ones(shape)
    dims = ("compound", "dose_index")
    return xr.Dataset(
        {"t50_by_dose": (dims, t50), "t_half_by_dose": (dims, np.full(shape, 7.2)),
         "dose_by_dose": (dims, np.broadcast_to(DOSES, shape).copy()), "t50": ("compound", t50[:, -1]),
         "t50_low": ("compound", t50[:, -1] - 1), "t50_high": ("compound", t50[:, -1] + 1)},
        coords={"compound": np.array(named, dtype=object), "hours": ("frame", hours)},
    )  # fmt: skip


def _pathways(named: list[str]) -> xr.Dataset:
    number = len(named)
    switches = np.arange(number) % 4 == 0
    text = {
        "status": np.where(switches, "switch", "constant"), "leading": np.full(number, "apoptosis"),
        "switch_from": np.where(switches, "apoptosis", ""), "switch_to": np.where(switches, "necrosis", ""),
    }  # fmt: skip
    value = {"switch_dose": 3.2, "switch_low": 2.1, "switch_high": 5.0}
    return xr.Dataset(
        {**{key: ("compound", values.astype(object)) for key, values in text.items()},
         **{key: ("compound", np.where(switches, one, np.nan)) for key, one in value.items()}},
        coords={"compound": np.array(named, dtype=object)},
    )  # fmt: skip


def _spatial(hours: np.ndarray, rng: np.random.Generator) -> xr.Dataset:
    shape, dims = (len(READOUTS), len(hours)), ("readout", "timepoint")
    values: dict[str, tuple[Any, np.ndarray]] = {}
    for test in ("edge", "row", "column", "gradient", "morans"):
        values[f"{test}_p"] = (dims, rng.uniform(0, 1, shape))
        values["morans_i" if test == "morans" else f"{test}_share"] = (dims, rng.uniform(0, 0.3, shape))
        values[f"replicate_{test}_p"] = ("readout", rng.uniform(0, 1, shape[0]))
        named = "morans_i" if test == "morans" else f"{test}_share"
        values[f"replicate_{named}"] = ("readout", rng.uniform(0, 0.3, shape[0]))
    for key in ("p", "effect", "n", "edge_t"):
        values[key] = (dims, rng.uniform(0.005, 0.4, shape))
        values[f"replicate_{key}"] = ("readout", rng.uniform(0.005, 0.4, shape[0]))
    values["test"] = (dims, np.full(shape, "column", dtype=object))
    values["replicate_test"] = ("readout", np.full(shape[0], "row", dtype=object))
    coords = {"readout": np.array(READOUTS, dtype=object), "timepoint": np.arange(len(hours))}
    return xr.Dataset(values, coords=coords)


def _drift(hours: np.ndarray, rng: np.random.Generator) -> xr.Dataset:
    quantities, dims = ["death", "focus", "medium_index", "confluency"], ("quantity", "timepoint")
    shape = (4, len(hours))
    values = {key: (dims, rng.uniform(-0.2, 0.4, shape)) for key in ("spearman", "p", "change")}
    coords = {"quantity": np.array(quantities, dtype=object), "timepoint": np.arange(len(hours))}
    return xr.Dataset({**values, "n": (dims, np.full(shape, 32))}, coords=coords)


def _layout_check() -> xr.Dataset:
    ways = np.array(["as it is", "turned by 180 degrees", "with rows and columns exchanged"], dtype=object)
    return xr.Dataset(
        {"kind": ("way", np.array(["as it is", "turned", "turned"], dtype=object)),
         "status": ("way", np.array(["tested", "tested", "too few wells would be left"], dtype=object)),
         "better": ("way", np.zeros(3, dtype=bool)), "gain": ("way", np.array([0.0, -4.0, 0.0])),
         "p": ("way", np.full(3, np.nan))},
        coords={"way": ways},
    )  # fmt: skip


def _field_quality(probabilities: xr.Dataset) -> xr.Dataset:
    shape, dims = probabilities["status"].shape, ("well", "field", "timepoint")
    proposed, reason = np.zeros(shape, dtype=bool), np.full(shape, "", dtype=object)
    proposed[70, 0, :2], reason[70, 0, :2] = True, "out of focus"
    return xr.Dataset(
        {"proposed": (dims, proposed), "reason": (dims, reason)},
        coords={key: probabilities[key].values for key in dims},
        attrs={"rule": "A field is out of focus at a robust z below -5."},
    )


def _exclusions(name: str, named: list[str], excluded: bool) -> xr.Dataset:
    rows = [(name, "B01", -1, -1, "bubble", "A. Person", "2026-03-05")] if excluded else []
    columns = list(zip(*rows, strict=True)) or [()] * 7
    keys = ("plate", "well", "field", "timepoint", "reason", "name", "date")
    number = len(named)
    pair = {f"{key}_{end}": ("compound", np.arange(number, dtype=float)) for key in ("rank", "ec50", "emax")
            for end in ("before", "after")}  # fmt: skip
    return xr.Dataset(
        {**{key: ("exclusion", np.array(column, dtype=int if key in ("field", "timepoint") else object))
            for key, column in zip(keys, columns, strict=True)},
         **pair, "changed": ("compound", np.arange(number) == (3 if excluded else -1))},
        coords={"compound": np.array(named, dtype=object)},
    )  # fmt: skip


def _write_images(
    path: Path, name: str, layout: xr.Dataset, named: list[str], hours: np.ndarray, images: int,
    rng: np.random.Generator,
) -> None:  # fmt: skip
    """Soft bodies on a noisy ground at the last timepoint: controls, then compounds from their highest dose down."""
    wells = [str(well) for well in layout["well"].values]
    frames = len(hours)
    plate = create_plate(
        path, name=name, wells=wells, fields=1, timepoints=frames, shape_zyx=(1, PIXELS, PIXELS),
        voxel_um=(1.0, MICROMETRES, MICROMETRES), rows=ROWS, columns=COLUMNS, hours=hours.tolist(), provenance={},
    )  # fmt: skip
    first: dict[tuple[str, str, str, float], int] = {}
    for index, control in enumerate(layout["control"].values):
        first.setdefault((control, layout["inducer"].values[index], layout["compound"].values[index],
                          float(layout["dose"].values[index])), index)  # fmt: skip
    wanted = [index for key, index in first.items() if key[0] == "positive"]
    wanted += [first["negative", "", "DMSO", 0.0], first["negative", "", "DMSO", 0.0] + 1]
    wanted += [first["none", "", compound, dose] for dose in DOSES[::-1] for compound in named]
    y, x = np.mgrid[:PIXELS, :PIXELS]
    for index in wanted[: images + 4]:
        index_map = np.full((PIXELS, PIXELS), 1.337) + rng.normal(0, 2.6e-3, (PIXELS, PIXELS))
        for centre_y, centre_x, radius in rng.uniform((0, 0, 30), (PIXELS, PIXELS, 70), (14, 3)):
            near = (
                slice(max(int(centre_y - 90), 0), int(centre_y + 90)),
                slice(max(int(centre_x - 90), 0), int(centre_x + 90)),
            )
            distance = ((y[near] - centre_y) / radius) ** 2 + ((x[near] - centre_x) / (0.6 * radius)) ** 2
            index_map[near] += (0.028 + rng.normal(0, 0.012, distance.shape)) * np.exp(-(distance**2))
        volume = (index_map[None] * 1e4).astype(np.uint16)
        plate.write_field(wells[index], field=0, timepoint=frames - 1, volume=volume)
