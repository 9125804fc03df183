"""Control charts of a campaign: the planted plate is flagged, by its rule, in the order in which plates were made."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from screening.analysis.campaign_charts import OF_QUALITY, control_charts


def quality(z_prime: float) -> xr.Dataset:
    values = [[z_prime]]
    return xr.Dataset(dict.fromkeys(OF_QUALITY, (("readout", "timepoint"), values)), coords={"readout": ["death"]})


def controls(vehicle: float) -> xr.Dataset:
    return xr.Dataset({"vehicle_death": ("timepoint", [vehicle]), "positive_death": ("timepoint", [0.9])})


def campaign(vehicle: np.ndarray) -> tuple[dict[str, xr.Dataset], dict[str, xr.Dataset]]:
    names = [f"P{number:02d}" for number in range(len(vehicle))]
    return {name: quality(0.7) for name in names}, {name: controls(v) for name, v in zip(names, vehicle, strict=True)}


def test_the_plate_with_dying_vehicle_cells_breaks_the_rule_of_three_sd_and_no_other_chart_moves() -> None:
    vehicle = 0.05 + 0.01 * np.sin(2.4 * np.arange(20))
    vehicle[12] = 0.20
    found = control_charts(*campaign(vehicle))
    chart = found.sel(readout="vehicle_death")
    assert chart.plate.values[chart.flag.sel(rule="1_3s").values].tolist() == ["P12"]
    assert chart.status.sel(plate="P12").item() == "out of control"
    assert float(chart.centre) == pytest.approx(0.05, abs=0.01)
    assert float(chart.sd) == pytest.approx(0.01, rel=0.3)
    assert float(chart.value.sel(plate="P12")) == 0.20
    # words and flags say the same
    for plate in found.plate.values:
        one = chart.sel(plate=plate)
        assert set(str(one.rules.item()).split(", ")) - {""} == set(one.rule.values[one.flag.values])
    # plates that are all alike have no spread to judge by
    assert (found.sel(readout="z_prime").status.values == "not judged").all()


def test_plates_stand_in_the_order_of_their_first_image() -> None:
    two = campaign(np.array([0.05, 0.06]))
    days = {"P00": np.datetime64("2026-03-05"), "P01": np.datetime64("2026-03-02")}
    found = control_charts(*two, acquired=days)
    assert found.plate.values.tolist() == ["P01", "P00"]
    assert found.attrs["order"] == "first image"
    assert found.value.sel(readout="vehicle_death").values.tolist() == [0.06, 0.05]
    # where one plate does not tell, nobody's order is guessed
    unknown = control_charts(*two, acquired={"P00": days["P00"]})
    assert unknown.plate.values.tolist() == ["P00", "P01"]
    assert unknown.attrs["order"] == "as given"


def test_the_reference_compound_is_charted_where_the_campaign_follows_one() -> None:
    trend = xr.Dataset(
        {"value": (("series", "plate"), [[0.3, 0.4]])},
        coords={"series": ["reference"], "plate": np.array(["P01", "P00"], dtype=object)},
        attrs={"reference": "staurosporine"},
    )
    found = control_charts(*campaign(np.array([0.05, 0.06])), trend=trend)
    assert found.value.sel(readout="reference_log10_ec50").values.tolist() == [0.4, 0.3]
    assert found.attrs["reference"] == "staurosporine"
