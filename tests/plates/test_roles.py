"""What part each well plays in the numbers."""

import numpy as np
import pandas as pd

from plates.layout.roles import main_vehicle, roles, vehicle_controls, vehicles


def _plate(*wells: tuple[str, str, str]) -> pd.DataFrame:
    """Wells of (control, vehicle, masked)."""
    return pd.DataFrame(wells, columns=["control", "vehicle", "masked"])


def test_a_masked_well_plays_no_part_whatever_it_holds() -> None:
    plate = _plate(("negative", "", "leak"), ("negative", "", ""), ("positive", "", "dry"), ("none", "", ""))
    assert list(roles(plate)) == ["masked", "negative", "masked", "none"]
    assert list(main_vehicle(plate)) == [False, True, False, False]


def test_a_plate_without_masks_and_vehicles_is_one_of_used_wells_in_one_vehicle() -> None:
    plate = _plate(("negative", "", ""), ("none", "", ""))[["control"]]
    assert list(roles(plate)) == ["negative", "none"]
    assert list(vehicles(plate)) == ["", ""]
    assert list(vehicle_controls(plate)[""]) == [True, False]
    # the stored result, as the analysis sees it
    assert list(roles(plate.to_xarray().rename(index="well"))) == ["negative", "none"]


def test_each_vehicle_has_its_own_controls_however_it_is_spelled() -> None:
    plate = _plate(("negative", "DMSO", ""), ("negative", "Ethanol 1 %", ""), ("none", "dmso ", ""))
    controls = vehicle_controls(plate)
    assert list(controls["dmso"]) == [True, False, False]
    assert list(controls["ethanol 1 %"]) == [False, True, False]


def test_wells_of_unknown_vehicle_have_all_controls_and_a_lone_vehicle_takes_the_unknown_ones() -> None:
    plate = _plate(("negative", "DMSO", ""), ("negative", "", ""), ("none", "", ""), ("none", "water", ""))
    controls = vehicle_controls(plate)
    assert list(controls[""]) == [True, True, False, False]
    assert list(controls["dmso"]) == [True, True, False, False]
    assert list(controls["water"]) == [False, True, False, False]


def test_a_vehicle_without_controls_has_none() -> None:
    plate = _plate(("negative", "DMSO", ""), ("none", "water", ""))
    assert not vehicle_controls(plate)["water"].any()


def test_the_main_vehicle_is_the_one_with_most_control_wells_in_use() -> None:
    plate = _plate(
        ("negative", "DMSO", ""), ("negative", "DMSO", "leak"), ("negative", "water", ""), ("negative", "water", "")
    )
    np.testing.assert_array_equal(main_vehicle(plate), [False, False, True, True])
