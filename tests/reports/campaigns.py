"""A campaign of any number of invented compounds over ten plates, with every group that a campaign stores."""

from pathlib import Path

import numpy as np
import xarray as xr

from plates.results import results_path, write_result
from plates.states import DEAD

DOSES = np.array([0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0])
PLATES = 10
POINTS = 31
HOURS = np.array([0.0, 8.0, 16.0, 24.0])


def write_large_campaign(folder: Path, *, compounds: int, seed: int = 0, names: tuple[str, ...] = ()) -> Path:
    """Write the results of a campaign and return their store; the first compounds carry the given names."""
    rng = np.random.default_rng(seed)
    name = np.array([*names, *(f"CPD-{number:05d}" for number in range(len(names), compounds))], dtype=object)
    ec50 = 10 ** rng.uniform(-1.7, 2.2, compounds)
    top = np.where(rng.random(compounds) < 0.3, 0.0, rng.uniform(0.3, 1.0, compounds))
    shares = rng.dirichlet([0.4] * 3, compounds)
    fits = _fits(name, ec50, top, shares, rng)
    death = fits.sel(readout="death", drop=True)
    order = np.lexsort((-death["emax"].values, np.nan_to_num(death["ec50_bound"].values, nan=1e9)))
    plates = np.array([f"P{number:03d}" for number in range(1, PLATES + 1)], dtype=object)
    groups = {
        "plates": _plates(plates),
        "dose_response": fits,
        "ranking": _ranking(death.isel(compound=order), shares[order], top[order], rng),
        "kinetics": _kinetics(name, ec50, top, rng),
        "pathways": _pathways(name, shares, top),
        "agreement": _agreement(plates, rng),
        "batches": _batches(),
        "control_charts": _charts(plates, rng),
    }
    path = folder / "large.zarr"
    for key, dataset in groups.items():
        write_result(path, key, dataset, provenance={"version": "0.1.0", "step": "combine"})
    return results_path(path)


def _fits(
    name: np.ndarray, ec50: np.ndarray, top: np.ndarray, shares: np.ndarray, rng: np.random.Generator
) -> xr.Dataset:
    count, replicates = len(name), 3
    readouts = np.array(["death", *DEAD], dtype=object)
    height = top[:, None] * np.concatenate([np.ones((count, 1)), shares], axis=1)  # (compound, readout)
    dose = np.broadcast_to(DOSES[:, None], (count, len(DOSES), replicates)).copy()
    curve_dose = np.geomspace(DOSES[0], DOSES[-1], POINTS)
    rise = 1 / (1 + (ec50[:, None] / curve_dose) ** 1.3)
    curve = height[..., None] * rise[:, None]
    at_doses = height[..., None, None] / (1 + (ec50[:, None, None, None] / dose[:, None]) ** 1.3)
    response = at_doses + rng.normal(0, 0.04, at_doses.shape)
    effect = height >= 0.1
    inside = effect & (ec50 < DOSES[-1])[:, None]
    status = np.where(inside, "quantified", np.where(effect, "above_range", "no_effect")).astype(object)
    value = np.where(inside, np.broadcast_to(ec50[:, None], inside.shape), np.where(effect, np.inf, np.nan))
    emax = height / (1 + (ec50[:, None] / DOSES[-1]) ** 1.3)
    dims = ("compound", "readout")
    numbers = {
        "ec50": value, "ec50_low": np.where(inside, value / 1.5, np.where(effect, 24.0, np.nan)),
        "ec50_high": np.where(inside, value * 1.5, np.where(effect, np.inf, np.nan)),
        "ec50_bound": np.where(inside, value * 1.2, np.nan), "ec50_fit": value, "bottom": np.zeros_like(height),
        "top": height, "hill": np.where(inside, 1.3, np.nan), "emax": emax, "emax_low": emax - 0.04,
        "emax_high": emax + 0.04, "p_value": np.where(effect, 1e-6, 0.5), "aac": emax / 2, "auc": emax / 2,
    }  # fmt: skip
    plate = np.array([f"P{number:03d}" for number in range(1, PLATES + 1)], dtype=object)
    which = (np.arange(count)[:, None, None] * 3 + np.arange(replicates)) % PLATES
    return xr.Dataset(
        {
            **{key: (dims, values) for key, values in numbers.items()},
            "status": (dims, status), "note": (dims, np.full(status.shape, "", dtype=object)),
            "grade": (dims, np.where(inside, "A", "").astype(object)),
            "dose": (("compound", "dose_index", "replicate"), dose),
            "response": ((*dims, "dose_index", "replicate"), response),
            "well": (("compound", "dose_index", "replicate"), np.full(dose.shape, "B02", dtype=object)),
            "plate": (("compound", "dose_index", "replicate"), np.broadcast_to(plate[which], dose.shape).copy()),
            "curve_dose": ((*dims, "curve_point"), np.broadcast_to(curve_dose, curve.shape).copy()),
            "curve": ((*dims, "curve_point"), curve), "curve_low": ((*dims, "curve_point"), curve - 0.05),
            "curve_high": ((*dims, "curve_point"), curve + 0.05),
        },
        coords={"compound": name, "readout": readouts},
        attrs={"timepoint": 3, "hours": 24.0, "response": "excess over vehicle", "rule": "As the truth says."},
    )  # fmt: skip


def _ranking(death: xr.Dataset, shares: np.ndarray, top: np.ndarray, rng: np.random.Generator) -> xr.Dataset:
    count = death.sizes["compound"]
    names = ("ec50", "ec50_low", "ec50_high", "ec50_bound", "ec50_fit", "emax", "emax_low", "emax_high", "p_value")
    kills = top >= 0.1
    place = np.arange(1, count + 1)
    leading = np.argsort(-shares, axis=1)
    pathway = np.array(DEAD, dtype=object)
    share = np.where(kills, shares.max(axis=1), np.nan)
    half = np.where(kills, rng.uniform(3, 20, count), np.nan)
    columns = {
        "rank": place, "rank_low": np.maximum(place - 3, 1), "rank_high": np.minimum(place + 4, count),
        "dominant_pathway": np.where(kills, pathway[leading[:, 0]], ""), "dominant_share": share,
        "dominant_share_low": share - 0.1, "dominant_share_high": np.minimum(share + 0.1, 1),
        "second_pathway": np.where(kills, pathway[leading[:, 1]], ""), "dominant_tied": kills & (share < 0.5),
        "t_half": half, "t_half_low": half - 1, "t_half_high": half + 2,
        "t_half_status": np.where(kills, "timed", "no_effect"), "ties": rng.integers(0, 5, count),
        "tie_group": place // 4, "hit": kills, "hit_reason": np.where(kills, "", "p is 0.5"),
        "hit_p_adjusted": np.where(kills, 1e-5, 0.6), "potency_rank": place, "efficacy_rank": place,
        "speed_rank": place, "selectivity_rank": place,
    }  # fmt: skip
    ranking = death[[*names, "status", "note", "grade"]]
    return ranking.assign(
        {
            key: ("compound", np.asarray(values, dtype=object) if np.asarray(values).dtype.kind in "OU" else values)
            for key, values in columns.items()
        }
    ).assign_attrs(order="By potency.", hit_rule="A hit kills.", msr=2.1, msr_source="the truth")


def _kinetics(name: np.ndarray, ec50: np.ndarray, top: np.ndarray, rng: np.random.Generator) -> xr.Dataset:
    count = len(name)
    kills = top >= 0.1
    onset, rate = rng.uniform(1, 10, count), 10 ** rng.uniform(-1.5, 0.3, count)
    timed = {"onset": onset, "rate": rate, "t50": np.where(top > 0.5, onset + np.log(2) / rate, np.nan)}
    data: dict[str, tuple[object, np.ndarray]] = {}
    for key, values in timed.items():
        known = np.where(kills, values, np.nan)
        data |= {key: ("compound", known), f"{key}_low": ("compound", known * 0.8),
                 f"{key}_high": ("compound", known * 1.3)}  # fmt: skip
    over = ec50[:, None] * (1 + 4 * np.exp(-HOURS / 8))
    data |= {"ec50_by_time": (("compound", "frame"), over), "ec50_by_time_low": (("compound", "frame"), over / 2),
             "ec50_by_time_high": (("compound", "frame"), over * 2), "hours": ("frame", HOURS)}  # fmt: skip
    data["status"] = ("compound", np.where(kills, "timed", "no_effect").astype(object))
    return xr.Dataset(data, coords={"compound": name})


def _pathways(name: np.ndarray, shares: np.ndarray, top: np.ndarray) -> xr.Dataset:
    entropy = -(shares * np.log(np.maximum(shares, 1e-12))).sum(axis=1)
    selectivity = np.where(top >= 0.1, 1 - entropy / np.log(3), np.nan)
    return xr.Dataset(
        {"selectivity": ("compound", selectivity), "selectivity_low": ("compound", selectivity * 0.8),
         "selectivity_high": ("compound", np.minimum(selectivity * 1.1, 1)),
         "status": ("compound", np.where(top >= 0.1, "constant", "no_effect").astype(object))},
        coords={"compound": name}, attrs={"rule": "As the truth says.", "dispersion": 2.0},
    )  # fmt: skip


def _plates(plates: np.ndarray) -> xr.Dataset:
    count = len(plates)
    numbers = {"z_prime": 0.6, "robust_z_prime": 0.62, "ssmd": 9.0, "n_negative": 16.0, "n_positive": 16.0}
    return xr.Dataset(
        {
            **{key: ("plate", np.full(count, value)) for key, value in numbers.items()},
            "verdict": ("plate", np.full(count, "PASS", dtype=object)),
            "reasons": ("plate", np.full(count, "[]", dtype=object)),
            "path": ("plate", np.array([f"/elsewhere/{name}.results.zarr" for name in plates], dtype=object)),
            "used": ("plate", np.ones(count, dtype=bool)),
        },
        coords={"plate": plates},
        attrs={"note": "", "mixed": ""},
    )


def _agreement(plates: np.ndarray, rng: np.random.Generator) -> xr.Dataset:
    pairs = [(a, b) for i, a in enumerate(plates) for b in plates[i + 1 :]]
    count = len(pairs)
    bias, sd = rng.normal(0, 0.02, count), rng.uniform(0.03, 0.08, count)
    concordance = rng.uniform(0.8, 0.99, count)
    numbers = {
        "n": np.full(count, 90.0), "pearson": concordance, "spearman": concordance, "concordance": concordance,
        "concordance_low": concordance - 0.03, "concordance_high": concordance + 0.01, "bias": bias,
        "bias_low": bias - 0.01, "bias_high": bias + 0.01, "sd": sd, "limit_low": bias - 1.96 * sd,
        "limit_high": bias + 1.96 * sd, "limit_low_low": bias - 2.2 * sd, "limit_high_high": bias + 2.2 * sd,
        "msr": np.full(count, 2.0), "msr_low": np.full(count, 1.7), "msr_high": np.full(count, 2.6),
    }  # fmt: skip
    texts = {"first": [a for a, _ in pairs], "second": [b for _, b in pairs], "kind": ["plates"] * count}
    mean = np.clip(rng.normal(0.5, 0.25, 90)[None] + rng.normal(0, 0.05, (len(plates), 90)), 0, 1)
    return xr.Dataset(
        {
            **{key: ("pair", values) for key, values in numbers.items()},
            **{key: ("pair", np.array(values, dtype=object)) for key, values in texts.items()},
            "mean": (("plate", "treatment"), mean),
            "treatment_compound": ("treatment", np.array([f"CPD-{i:05d}" for i in range(90)], dtype=object)),
            "treatment_dose": ("treatment", np.full(90, 3.0)),
        },
        coords={"plate": plates},
    )


def _batches() -> xr.Dataset:
    dims = ("readout", "level")
    share = np.array([[np.nan, 0.2, 0.8], [np.nan, 0.05, 0.95]])
    status = np.array([["one_level", "estimated", "estimated"]] * 2, dtype=object)
    return xr.Dataset(
        {"share": (dims, share), "sd": (dims, share / 10), "variance": (dims, share / 100),
         "levels": (dims, [[1.0, 10.0, 900.0]] * 2), "status": (dims, status)},
        coords={"readout": np.array(["raw", "normalized"], dtype=object),
                "level": np.array(["batch", "plate", "well"], dtype=object)},
    )  # fmt: skip


def _charts(plates: np.ndarray, rng: np.random.Generator) -> xr.Dataset:
    readouts = np.array(["vehicle_death", "robust_z_prime", "reference_log10_ec50"], dtype=object)
    shape = (len(readouts), len(plates))
    value = np.array([0.05, 0.6, -0.5])[:, None] + rng.normal(0, 0.01, shape)
    value[0, 6] = 0.12
    status, rules = np.full(shape, "in control", dtype=object), np.full(shape, "", dtype=object)
    status[0, 6], rules[0, 6] = "out of control", "1_3s"
    day = np.datetime64("2026-03-02", "ns") + np.arange(len(plates)) * np.timedelta64(1, "D")
    return xr.Dataset(
        {"value": (("readout", "plate"), value), "z": (("readout", "plate"), rng.normal(0, 1, shape)),
         "status": (("readout", "plate"), status), "rules": (("readout", "plate"), rules),
         "centre": ("readout", np.array([0.05, 0.6, -0.5])), "sd": ("readout", np.full(3, 0.01))},
        coords={"readout": readouts, "plate": plates, "acquired": ("plate", day)},
        attrs={"order": "first image", "reference": "CPD-00001"},
    )  # fmt: skip
