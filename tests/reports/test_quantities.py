import numpy as np
import pytest
import xarray as xr

from plates.results import read_result
from plates.states import DEAD, STATES
from reports.quantities import cube, plate_quantities

from .full_plate import DOSES, write_full_plate

NAMES = ("layout", "fractions", "probabilities", "kinetics")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, xr.Dataset]:
    plate = write_full_plate(tmp_path_factory.mktemp("quantities"), compounds=4, frames=3, images=0)
    return {name: read_result(plate, name) for name in NAMES}


def test_states_are_kept_to_a_thousandth_and_missing_wells_stay_missing(results: dict[str, xr.Dataset]) -> None:
    fractions = results["fractions"].copy(deep=True)
    fractions["death"][3, 1] = np.nan
    found = {one.name: one for one in plate_quantities({**results, "fractions": fractions})}
    death = fractions["death"].transpose("timepoint", "well").values
    stored = found["dead cells"].stored
    assert stored[1, 3] == -1
    held = np.isfinite(death)
    np.testing.assert_allclose(stored[held] / 1000, death[held], atol=5.1e-4)
    for state in STATES:
        share = fractions["fraction"].sel(state=state).transpose("timepoint", "well").values
        np.testing.assert_allclose(found[state].stored / 1000, share, atol=5.1e-4)


def test_the_dominant_pathway_is_the_largest_where_enough_cells_are_dead(results: dict[str, xr.Dataset]) -> None:
    found = {one.name: one for one in plate_quantities(results)}["dominant pathway"]
    fractions = results["fractions"].isel(timepoint=-1)
    for well in range(0, fractions.sizes["well"], 7):
        one = fractions.isel(well=well)
        expected = "few deaths"
        if one["death"].item() >= 0.1:
            expected = max(DEAD, key=lambda state: one["fraction"].sel(state=state).item())
        assert found.scale.told(int(found.at(2)[well])) == expected


def test_the_time_of_death_of_a_dose_stands_in_its_wells_and_nowhere_else(results: dict[str, xr.Dataset]) -> None:
    found = {one.name: one for one in plate_quantities(results)}["time of 50 % death"]
    layout, kinetics = results["layout"], results["kinetics"]
    well = int(np.flatnonzero((layout["compound"] == "compound 01") & np.isclose(layout["dose"], DOSES[7]))[0])
    assert found.scale.told(int(found.at(0)[well])) == f"{kinetics['t50_by_dose'].values[0, 7]:.1f} h"
    assert (found.stored[0][layout["control"].values != "none"] == -1).all()
    assert len(found.stored) == 1, "one number serves all timepoints"


def test_the_uncertain_patches_are_those_below_the_classifiers_own_limit(results: dict[str, xr.Dataset]) -> None:
    found = {one.name: one for one in plate_quantities(results)}
    values = results["probabilities"]["probability"].isel(well=5, timepoint=1).values.reshape(-1, 5)
    values = values[np.isfinite(values[:, 0])]
    share = (values.max(axis=1) < results["probabilities"].attrs["uncertain_below"]).mean()
    assert found["uncertain patches"].stored[1, 5] == round(1000 * share)
    entropy = -(values * np.log(values)).sum(axis=1).mean() / np.log(5)
    assert found["mean entropy"].stored[1, 5] == pytest.approx(1000 * entropy, abs=0.6)


def test_a_result_that_is_not_there_leaves_its_maps_out(results: dict[str, xr.Dataset]) -> None:
    few = plate_quantities({name: results[name] for name in ("layout", "fractions")})
    assert [one.name for one in few] == ["dead cells", *STATES, "dominant pathway", "viability", "patches with cells"]
    stored = cube(few, results["layout"], results["fractions"]["hours"].values)
    assert [len(one["values"]) for one in stored["quantities"]] == [3] * 9
    assert stored["times"] == ["0 h", "2 h", "4 h"]
