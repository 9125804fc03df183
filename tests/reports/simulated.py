"""A plate and a campaign of invented results, written as the pipeline writes them; no optics and no fits."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from plates.creation import create_plate
from plates.results import results_path, write_result
from plates.states import DEAD, STATES

DOSES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
COMPOUNDS = ("staurosporine", "TNF mimetic", "bleach", "slow killer", "cisplatin", "inert", "toxin 7", "weak")
PIXELS, MICROMETRES = 640, 0.16
HOURS = (0.0, 4.0, 8.0, 12.0)


def write_plate(
    folder: Path, *, name: str = "P012", compounds: Sequence[str] = COMPOUNDS[:4], stride: int = 160, card: str = "",
    missing: Sequence[str] = (), verdict: str = "PASS", seed: int = 0, images: bool = True,
    fluorescence: Sequence[str] = (),
) -> Path:  # fmt: skip
    """Write one 96-well plate with its results and return its path; 8 vehicle and 6 positive wells.

    The first channel of fluorescence shows the bodies that the projections show, the others a bright corner, row 0.
    """
    rng = np.random.default_rng(seed)
    layout = _layout(compounds)
    path = folder / f"{name}.zarr"
    patches = (PIXELS - 160) // stride + 1
    fractions = _fractions(layout, rng)
    probabilities = _probabilities(fractions, patches, rng)
    probabilities.attrs |= {
        "classifier": "demo-resnet18", "classifier_sha256": "3f" * 32,
        "calibration": "temperature scaling on 400 patches", "temperature": 1.31,
        "trained_on": card or "HeLa, 12 plates of 2025", "patch_um": 25.6, "patch_px": 160,
        "stride_px": stride, "foreground_index": 0.0054, "foreground_share": 0.05,
    }  # fmt: skip
    centres = (80 + stride * np.arange(patches)) * MICROMETRES
    probabilities = probabilities.assign_coords(py_um=("py", centres), px_um=("px", centres))
    for well in missing:
        probabilities["status"].loc[{"well": well}] = 3
        probabilities["probability"].loc[{"well": well}] = np.nan
        for variable in ("death", "death_low", "death_high", "fraction", "fraction_low", "fraction_high"):
            fractions[variable].loc[{"well": well}] = np.nan
        fractions["patches"].loc[{"well": well}] = 0
    fits = _fits(compounds, fractions, rng)
    fields = xr.Dataset(
        {"medium_index": (("well", "field", "timepoint"), np.full(probabilities["status"].shape, 1.337)),
         "status": (("well", "field", "timepoint"), probabilities["status"].values)},
        coords={key: probabilities[key] for key in ("well", "field", "timepoint")},
    )  # fmt: skip
    quality = _quality(verdict, layout["well"].values, rng)
    quality.attrs["plate"] = name
    results = {
        "layout": layout, "fields": fields, "probabilities": probabilities, "fractions": fractions, "quality": quality,
        "dose_response": fits, "ranking": _ranking(fits), "normalized": _normalized(fractions),
    }  # fmt: skip
    record = {"version": "0.1.0", "settings": {"seed": seed}}
    for key, dataset in results.items():
        write_result(path, key, dataset, provenance=record)
    _write_images(path, name, layout, rng, images=images, fluorescence=fluorescence)
    return path


def write_campaign(folder: Path, *, compounds: Sequence[str] = COMPOUNDS, seed: int = 0) -> Path:
    """Write the results of a campaign of three plates and return their store."""
    rng = np.random.default_rng(seed)
    layout = _layout(compounds)
    fits = _fits(compounds, _fractions(layout, rng), rng)
    plates = xr.Dataset(
        {
            "verdict": ("plate", np.array(["PASS", "REVIEW", "FAIL"], dtype=object)),
            "reasons": (
                "plate",
                np.array(["[]", '["Robust Z\' of death is 0.33, below 0.5."]', '["No vehicle well."]'], dtype=object),
            ),
            "path": (
                "plate",
                np.array([f"/elsewhere/P{number}.results.zarr" for number in (12, 13, 14)], dtype=object),
            ),
            **{name: ("plate", [0.71, 0.33, np.nan]) for name in ("z_prime", "robust_z_prime", "ssmd")},
            **{name: ("plate", [8.0, 8.0, 0.0]) for name in ("n_negative", "n_positive")},
            "used": ("plate", [True, True, False]),
        },
        coords={"plate": np.array(["P012", "P013", "P014"], dtype=object)},
        attrs={"note": ""},
    )
    path = folder / "screen.zarr"
    for key, dataset in {"plates": plates, "dose_response": fits, "ranking": _ranking(fits)}.items():
        write_result(path, key, dataset, provenance={"version": "0.1.0"})
    return results_path(path)


def _layout(compounds: Sequence[str]) -> xr.Dataset:
    """Two replicates of each dose, vehicle wells in the first column and positive controls in the last."""
    treated = [(name, dose, "none", "", replicate) for name in compounds for dose in DOSES for replicate in (1, 2)]
    inducers = {"apoptosis": "anti-CD95", "necroptosis": "TNF/SM/zVAD", "necrosis": "NaOH"}
    positive = [(inducers[state], 1.0, "positive", state, replicate) for state in DEAD for replicate in (1, 2)]
    vehicle = [("DMSO", 0.0, "negative", "", replicate) for replicate in range(1, 9)]
    inner = [(row, column) for row in range(8) for column in range(1, 11)]
    inner += [(7, 0), (6, 11), (7, 11)] + [(row, column) for row in range(8, 30) for column in range(12)]
    places = [*[(row, 0) for row in range(8)], *[(row, 11) for row in range(6)]]
    places += [place for place in inner if place not in places][: len(treated)]
    table = sorted(zip(places, [*vehicle, *positive, *treated], strict=True))
    columns = list(zip(*[entry for _, entry in table], strict=True))
    text = {"compound": columns[0], "control": columns[2], "inducer": columns[3], "cell_line": ["HeLa"] * len(table)}
    return xr.Dataset(
        {
            **{key: ("well", np.array(values, dtype=object)) for key, values in text.items()},
            "dose": ("well", np.array(columns[1]), {"units": "uM"}),
            "replicate": ("well", np.array(columns[4])),
            "row": ("well", np.array([row for (row, _), _ in table])),
            "column": ("well", np.array([column for (_, column), _ in table])),
        },
        coords={"well": np.array([f"{chr(65 + row)}{column + 1:02d}" for (row, column), _ in table], dtype=object)},
        attrs={"source": "P012_map.csv", "sha256": "ab" * 32, "dose_unit": "uM"},
    )


def _truth(compounds: Sequence[str], name: str) -> tuple[float, float, str]:
    """EC50 (uM), highest death and pathway of a compound, by its place in the list."""
    place = list(compounds).index(name)
    ec50 = (0.4, 2.0, 6.0, 60.0, 1.2, 1e9, 0.15, 4.0)[place % 8]
    return ec50, (0.9, 0.85, 0.95, 0.8, 0.6, 0.0, 0.9, 0.35)[place % 8], DEAD[place % 3]


def _fractions(layout: xr.Dataset, rng: np.random.Generator) -> xr.Dataset:
    wells = layout.sizes["well"]
    share = np.zeros((wells, len(HOURS), len(STATES)))
    compounds = list(dict.fromkeys(layout["compound"].values[layout["control"].values == "none"]))
    for index in range(wells):
        one = layout.isel(well=index)
        control, inducer = str(one["control"].item()), str(one["inducer"].item())
        ceiling, pathway = 0.0, "apoptosis"
        if control == "positive":
            ceiling, pathway = 0.92, inducer
        elif control == "none":
            ec50, top, pathway = _truth(compounds, str(one["compound"].item()))
            ceiling = top / (1 + (ec50 / one["dose"].item()) ** 1.4)
        for time, hour in enumerate(HOURS):
            dead = np.clip(0.03 + ceiling * (1 - np.exp(-hour / 4)) / (1 - np.exp(-3)) + rng.normal(0, 0.02), 0, 0.99)
            weights = np.full(3, 0.08)
            weights[DEAD.index(pathway)] = 0.84
            living = 1 - dead
            treated = 0.15 if control == "negative" else 0.3 + 0.5 * ceiling
            share[index, time] = [*(dead * weights), living * (1 - treated), living * treated]
    death = share[..., :3].sum(-1)
    dims = ("well", "timepoint", "state")
    fractions = xr.Dataset(
        {
            "fraction": (dims, share), "fraction_low": (dims, np.clip(share - 0.05, 0, 1)),
            "fraction_high": (dims, np.clip(share + 0.05, 0, 1)), "count": (dims, np.rint(share * 30).astype(int)),
            "death": (dims[:2], death), "death_low": (dims[:2], np.clip(death - 0.06, 0, 1)),
            "death_high": (dims[:2], np.clip(death + 0.06, 0, 1)), "patches": (dims[:2], np.full(death.shape, 30)),
            "fields_used": (dims[:2], np.full(death.shape, 2)), "confluency": (dims[:2], np.full(death.shape, 0.45)),
        },
        coords={"well": layout["well"], "timepoint": np.arange(len(HOURS)), "state": np.array(STATES, dtype=object),
                "hours": ("timepoint", np.array(HOURS))},
    )  # fmt: skip
    return fractions.assign_coords({name: layout[name] for name in layout.data_vars})


def _probabilities(fractions: xr.Dataset, patches: int, rng: np.random.Generator) -> xr.Dataset:
    wells, times = fractions.sizes["well"], fractions.sizes["timepoint"]
    shape = (wells, 2, times, patches, patches)
    target = fractions["fraction"].values[:, None, :, None, None, :]
    chosen = np.argmax(np.log(target + 1e-9) + rng.gumbel(size=(*shape, 5)), axis=-1)
    logits = rng.normal(0, 1, (*shape, 5)) + 3.5 * np.eye(5)[chosen]
    probability = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    probability[rng.random(shape) < 0.2] = np.nan
    dims = ("well", "field", "timepoint", "py", "px")
    return xr.Dataset(
        {"probability": ((*dims, "state"), probability.astype("float32")),
         "foreground": (dims, np.where(np.isnan(probability[..., 0]), 0.01, 0.4).astype("float32")),
         "status": (dims[:3], np.ones(shape[:3], dtype="int8"))},
        coords={"well": fractions["well"].values, "field": [0, 1], "timepoint": fractions["timepoint"].values,
                "state": np.array(STATES, dtype=object), "hours": ("timepoint", np.array(HOURS))},
    )  # fmt: skip


def _quality(verdict: str, wells: np.ndarray, rng: np.random.Generator) -> xr.Dataset:
    readouts = np.array(["death", *STATES], dtype=object)
    shape = (len(readouts), len(HOURS))
    rising = np.linspace(-2.4, 0.74, len(HOURS)) + rng.normal(0, 0.02, shape)
    dims = ("readout", "timepoint")
    names = ("robust_z_prime", "ssmd", "robust_ssmd", "signal_to_background", "cv_negative")
    reasons = [] if verdict == "PASS" else ["Z' of death is 0.21 at the reading time; the limit is 0.4."]
    return xr.Dataset(
        {"z_prime": (dims, rising), **{name: (dims, rising * factor) for factor, name in enumerate(names, start=2)},
         **{f"{name}_{end}": (dims, rising * factor + shift) for factor, name in enumerate(("z_prime", *names), start=1)
            for end, shift in (("low", -0.1), ("high", 0.1))},
         "reason": (dims, np.full(shape, "", dtype=object)), "flags": ("well", np.full(len(wells), "", dtype=object)),
         "few_patches": (("well", "timepoint"), np.zeros((len(wells), len(HOURS)), dtype=bool)),
         "n_negative": (dims, np.full(shape, 8)), "n_positive": (dims, np.full(shape, 6))},
        coords={"readout": readouts, "timepoint": np.arange(len(HOURS)), "well": wells},
        attrs={"verdict": verdict, "reasons": json.dumps(reasons), "rule": "PASS when Z' of death is at least 0.4.",
               "z_prime_limit": 0.4},
    )  # fmt: skip


def _fits(compounds: Sequence[str], fractions: xr.Dataset, rng: np.random.Generator) -> xr.Dataset:
    readouts = np.array(["death", *DEAD], dtype=object)
    count, points = len(compounds), 60
    shape = (count, len(readouts))
    names = ("ec50", "ec50_low", "ec50_high", "bottom", "top", "hill", "emax", "emax_low", "emax_high", "p_value")
    values = {name: np.full(shape, np.nan) for name in names}
    status, note = np.full(shape, "no_effect", dtype=object), np.full(shape, "", dtype=object)
    dose = np.broadcast_to(np.array(DOSES)[:, None], (count, len(DOSES), 2)).copy()
    response = np.full((count, len(readouts), len(DOSES), 2), np.nan)
    well = np.full(dose.shape, "", dtype=object)
    curve_dose = np.geomspace(DOSES[0], DOSES[-1], points)
    curve = np.full((*shape, points), np.nan)
    final = fractions.isel(timepoint=-1)
    for i, name in enumerate(compounds):
        ec50, top, pathway = _truth(compounds, name)
        for j, readout in enumerate(readouts):
            height = top * (1.0 if readout == "death" else 0.84 if readout == pathway else 0.08)
            for k, level in enumerate(DOSES):
                wells = (final["compound"].values == name) & (final["dose"].values == level)
                one = final["death"] if readout == "death" else final["fraction"].sel(state=readout)
                response[i, j, k] = one.values[wells] - 0.03
                well[i, k] = final["well"].values[wells]
            values["emax"][i, j] = height / (1 + (ec50 / DOSES[-1]) ** 1.4)
            values["emax_low"][i, j], values["emax_high"][i, j] = (
                values["emax"][i, j] - 0.05,
                values["emax"][i, j] + 0.05,
            )
            values["p_value"][i, j] = 0.6 if height < 0.1 else 1e-6
            if height < 0.1:
                continue
            status[i, j] = "quantified" if ec50 < DOSES[-1] else "above_range"
            values["bottom"][i, j], values["top"][i, j], values["hill"][i, j] = 0.0, height, 1.4
            noisy = ec50 * np.exp(rng.normal(0, 0.08))
            values["ec50"][i, j] = noisy if ec50 < DOSES[-1] else np.inf
            values["ec50_low"][i, j] = noisy / 1.4 if ec50 < DOSES[-1] else 24.0
            values["ec50_high"][i, j] = noisy * 1.4 if ec50 < DOSES[-1] else np.inf
            curve[i, j] = height / (1 + (noisy / curve_dose) ** 1.4)
    dims = ("compound", "readout")
    return xr.Dataset(
        {
            **{key: (dims, value) for key, value in values.items()}, "status": (dims, status), "note": (dims, note),
            "n": (dims, np.isfinite(response).sum(axis=(2, 3)).astype(float)),
            "dose": (("compound", "dose_index", "replicate"), dose),
            "response": (("compound", "readout", "dose_index", "replicate"), response),
            "well": (("compound", "dose_index", "replicate"), well),
            "plate": (("compound", "dose_index", "replicate"), np.full(dose.shape, "P012", dtype=object)),
            "curve_dose": ((*dims, "curve_point"), np.broadcast_to(curve_dose, curve.shape).copy()),
            "curve": ((*dims, "curve_point"), curve), "curve_low": ((*dims, "curve_point"), curve - 0.06),
            "curve_high": ((*dims, "curve_point"), curve + 0.06),
        },
        coords={"compound": np.array(compounds, dtype=object), "readout": readouts},
        attrs={"timepoint": len(HOURS) - 1, "hours": HOURS[-1]},
    )  # fmt: skip


def _ranking(fits: xr.Dataset) -> xr.Dataset:
    death = fits.sel(readout="death", drop=True)
    names = ("ec50", "ec50_low", "ec50_high", "emax", "emax_low", "emax_high", "status")
    order = np.lexsort((-death["emax"].values, np.nan_to_num(death["ec50_high"].values, nan=np.inf)))
    ranking = death[list(names)].isel(compound=order)
    count = ranking.sizes["compound"]
    compounds = list(fits["compound"].values)
    killing = ranking["emax"].values > 0.1
    pathway = [
        _truth(compounds, name)[2] if kills else ""
        for name, kills in zip(ranking["compound"].values, killing, strict=True)
    ]
    return ranking.assign(
        rank=("compound", np.arange(1, count + 1)),
        dominant_pathway=("compound", np.array(pathway, dtype=object)),
        dominant_share=("compound", np.where(killing, 0.84, np.nan)),
        dominant_share_low=("compound", np.where(killing, 0.78, np.nan)),
        dominant_share_high=("compound", np.where(killing, 0.9, np.nan)),
        dominant_tied=("compound", np.arange(count) == 2),
        second_pathway=("compound", np.array(["necrosis" if kills else "" for kills in killing], dtype=object)),
        t_half=("compound", np.where(killing, 3.6, np.nan)),
        t_half_low=("compound", np.where(killing, 2.9, np.nan)),
        t_half_high=("compound", np.where(killing, 4.4, np.nan)),
        t_half_status=("compound", np.array(["timed" if kills else "no_effect" for kills in killing], dtype=object)),
        score=("compound", np.arange(count, dtype=float)),
    )


def _normalized(fractions: xr.Dataset) -> xr.Dataset:
    percent = 100 * (fractions["death"] - 0.03) / 0.9
    return xr.Dataset({"death_percent": percent}, coords=fractions.coords)


def _write_images(
    path: Path, name: str, layout: xr.Dataset, rng: np.random.Generator, *, images: bool,
    fluorescence: Sequence[str] = (),
) -> None:  # fmt: skip
    """Soft bodies on a dark ground, only where a gallery looks: first replicates, first field, last timepoint."""
    wells = [str(well) for well in layout["well"].values]
    plate = create_plate(
        path, name=name, wells=wells, fields=2, timepoints=len(HOURS), shape_zyx=(1, PIXELS, PIXELS),
        voxel_um=(1.0, MICROMETRES, MICROMETRES), rows=8, columns=12, hours=HOURS, provenance={},
        **({"fluorescence": tuple(fluorescence)} if fluorescence else {}),
    )  # fmt: skip
    y, x = np.mgrid[:PIXELS, :PIXELS]
    for index, well in enumerate(wells):
        one = layout.isel(well=index)
        top = one["control"].item() != "none" or one["dose"].item() == DOSES[-1]
        if not (images and top and one["replicate"].item() == 1):
            continue
        index_map = np.full((PIXELS, PIXELS), 1.337) + rng.normal(0, 2e-4, (PIXELS, PIXELS))
        for centre_y, centre_x, radius in rng.uniform((0, 0, 30), (PIXELS, PIXELS, 70), (14, 3)):
            index_map += 0.028 * np.exp(
                -((((y - centre_y) / radius) ** 2 + ((x - centre_x) / (0.6 * radius)) ** 2) ** 2)
            )
        plate.write_field(well, field=0, timepoint=len(HOURS) - 1, volume=(index_map[None] * 1e4).astype(np.uint16))
        if fluorescence:
            corner = (np.hypot(y, x) < PIXELS / 4) * 4000 + 100
            bodies = np.clip((index_map - 1.337) * 1e5, 1, None)
            channels = {one: (corner if place else bodies) for place, one in enumerate(fluorescence)}
            light = {one: image.astype(np.uint16) for one, image in channels.items()}
            plate.write_fluorescence(well, field=0, timepoint=len(HOURS) - 1, images=light)
