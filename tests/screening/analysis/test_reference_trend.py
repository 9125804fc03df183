"""Steadiness of a campaign: reference compound, agreement of plates, batches."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from screening.analysis.normalization import normalize
from screening.analysis.reference_trend import batch_effects, plate_agreement, reference_trend

from .by_hand import Kill, fractions_of


def curves(**log_ec50: float) -> xr.Dataset:
    values = np.array(list(log_ec50.values()))
    return xr.Dataset(
        {
            "ec50": (("compound", "readout"), 10 ** values[:, None]),
            "status": (
                ("compound", "readout"),
                np.where(np.isfinite(values), "quantified", "no_effect").astype(object)[:, None],
            ),
        },
        coords={"compound": np.array(list(log_ec50), dtype=object), "readout": ["death"]},
    )


def controls(vehicle: float, positive: float = 0.9) -> xr.Dataset:
    return xr.Dataset({"vehicle_death": ("timepoint", [vehicle]), "positive_death": ("timepoint", [positive])})


def test_the_msr_is_that_of_the_drawn_runs_and_the_shifted_plate_is_found() -> None:
    rng = np.random.default_rng(0)
    plates = {f"P{k:02d}": curves(ref=rng.normal(0.3, 0.08), other=rng.normal(1, 0.08)) for k in range(30)}
    plates["P30"] = curves(ref=1.2, other=1.0)
    followed = {name: controls(rng.normal(0.05, 0.01)) for name in plates}
    found = reference_trend(plates, followed, reference="ref")
    chart = found.sel(series="reference")
    assert chart.status.sel(plate="P30").item() == "out of control"
    assert (chart.status.values == "out of control").sum() <= 2
    assert found.attrs["reference"] == "ref"
    steady = reference_trend({k: v for k, v in plates.items() if k != "P30"}, followed)
    assert steady.attrs["msr_low"] < 10 ** (2 * np.sqrt(2) * 0.08) < steady.attrs["msr_high"]
    assert steady.attrs["msr_source"] == "2 compounds quantified on 3 or more plates"


def test_without_curves_there_is_no_reference_and_no_infinite_msr() -> None:
    found = reference_trend({}, {"P1": controls(0.05), "P2": controls(np.nan)})
    assert found.attrs["reference"] == ""
    assert np.isnan(found.attrs["msr"])
    assert found.attrs["msr_source"] == "none"
    assert found.sel(series="vehicle").status.values.tolist() == ["not judged", "no value"]
    unknown = reference_trend({"P1": curves(a=1.0)}, {"P1": controls(0.05)}, reference="absent")
    assert np.isnan(unknown.attrs["msr"])


KILLERS: dict[str, Kill] = {
    "apo": {"apoptosis": (0.3, 1.5, 0.9)},
    "nec": {"necrosis": (3.0, 1.5, 0.9)},
    "flat": {},
}


def plate(seed: int, name: str, *, baseline: float = 0.03) -> xr.Dataset:
    return normalize(fractions_of(KILLERS, seed=seed, effective=100, baseline=baseline)).assign_attrs(plate=name)


def test_plates_of_the_same_compounds_agree() -> None:
    plates = [plate(1, "P1"), plate(2, "P2")]
    found = plate_agreement(plates, {"P1": curves(a=1.0, b=2.0, c=0.0), "P2": curves(a=1.1, b=2.1, c=0.1)})
    between = found.isel(pair=found.kind.values == "plates").squeeze("pair")
    assert between["first"].item() == "P1"
    assert between.concordance.item() > 0.95
    assert between.n.item() == 18
    assert between.msr.item() == pytest.approx(1)
    within = found.isel(pair=found.kind.values == "replicates")
    assert within["second"].values.tolist() == ["P1 #2", "P2 #2"]
    assert (within.concordance > 0.95).all()


def test_normalisation_takes_away_what_plates_differ_by() -> None:
    plates = [plate(seed, f"P{seed}", baseline=base) for seed, base in enumerate((0.02, 0.1, 0.2, 0.05))]
    found = batch_effects(plates, batches={"P0": "monday", "P1": "monday", "P2": "tuesday", "P3": "tuesday"})
    raw, after = (float(found.variance.sel(readout=name, level="plate")) for name in ("raw", "normalized"))
    assert raw > 5 * after
    assert found.status.sel(readout="raw", level="batch").item() == "estimated"
    alone = batch_effects(plates[:1])
    assert alone.status.sel(readout="raw", level="plate").item() == "one_level"
