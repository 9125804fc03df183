"""Two compounds in a well, from the plate map to a verdict: the planted excess is found, and no curve sees it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from plates.results import read_result
from screening.analyse import analyse_plate
from screening.analysis.normalization import normalize
from screening.analysis.plate_combinations import fit_combinations
from screening.analysis.tables import described_tables, undescribed
from screening.export import TOO_LARGE, stored_results
from screening.settings import AnalysisSettings

from .by_hand import fractions_of
from .two_compounds import DOSES_A, DOSES_B, EXCESS, alone, killed, write_plate


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write_plate(tmp_path_factory.mktemp("combined"))
    analyse_plate(path, settings=AnalysisSettings(draws=100))
    return path


def bliss(path: Path) -> xr.Dataset:
    return read_result(path, "combinations").sel(pair="alpha + beta", model="bliss")


def test_the_planted_excess_over_bliss_is_recovered_with_its_interval(plate: Path) -> None:
    found = bliss(plate)
    assert float(found.mean_excess) == pytest.approx(EXCESS, abs=0.03)
    assert float(found.mean_excess_low) <= EXCESS <= float(found.mean_excess_high)
    assert found.verdict.item() == "synergy"
    assert int(found.dose_pairs) == len(DOSES_A) * len(DOSES_B)
    inside = (found.excess_low <= EXCESS) & (found.excess_high >= EXCESS)
    assert float(inside.values[1:, 1:].mean()) > 0.8
    # response and expectation stand at their doses
    a, b = found.dose.values, found.dose_2.values
    assert a.tolist() == [0.0, *DOSES_A]
    assert b.tolist() == [0.0, *DOSES_B]
    truth = np.array([[killed(x, y) for y in b] for x in a])
    assert found.response.values.ravel()[1:] == pytest.approx(truth.ravel()[1:], abs=0.12)
    assert (found.wells.values.ravel()[1:] == 3).all()


def test_without_excess_there_is_no_verdict_of_synergy(tmp_path: Path) -> None:
    path = write_plate(tmp_path, excess=0.0, seed=1)
    analyse_plate(path, settings=AnalysisSettings(draws=100))
    assert bliss(path).verdict.item() == "within error"
    assert float(bliss(path).mean_excess) == pytest.approx(0, abs=0.03)


def test_wells_of_two_compounds_are_in_no_curve(plate: Path) -> None:
    curves = read_result(plate, "dose_response").sel(readout="death")
    assert set(curves.compound.values) == {"alpha", "beta"}
    assert (curves.n.values == 12).all()  # four doses, three wells: none of the 48 combinations
    for name in ("alpha", "beta"):
        top = float(curves.sel(compound=name).emax)
        assert top == pytest.approx(alone(name, (DOSES_A if name == "alpha" else DOSES_B)[-1]), abs=0.1)
    for result in ("ranking", "kinetics", "pathways"):
        assert set(read_result(plate, result).compound.values) == {"alpha", "beta"}


def test_combinations_do_not_look_like_a_wrong_plate_map(plate: Path) -> None:
    quality = read_result(plate, "quality")
    assert quality.attrs["verdict"] == "PASS", quality.attrs["reasons"]


def test_the_tables_hold_the_pairs_and_every_column_is_described(plate: Path) -> None:
    stored = stored_results(plate)
    tables = described_tables({name: one for name, one in stored.items() if name not in TOO_LARGE})
    assert undescribed(tables["dictionary"]) == []
    assert set(tables["combinations.pair_model"]["model"]) == {"bliss", "hsa", "loewe", "zip"}
    assert "compound_2" in tables["layout.well"].columns


def test_a_plate_of_single_compounds_has_no_pairs_and_says_so() -> None:
    found = fit_combinations([normalize(fractions_of({"apo": {"apoptosis": (0.3, 1.5, 0.9)}}))])
    assert found.sizes["pair"] == 0
    assert found.attrs["note"] == "no well of the plate map holds two compounds"


def test_pairs_on_two_plates_are_one_and_smaller_matrices_are_filled_up(plate: Path) -> None:
    normalized = read_result(plate, "normalized")
    small = normalized.isel(well=~(normalized.dose_2.values == DOSES_B[-1])).assign_attrs(plate="P2")
    other = small.assign_coords(compound_2=("well", np.where(small.compound_2.values == "beta", "gamma", "")))
    found = fit_combinations([normalized, small.assign_attrs(plate="P3"), other], draws=20)
    assert "alpha + beta" in found.pair.values
    assert "alpha + gamma" in found.pair.values
    one = found.sel(pair="alpha + beta")
    assert int(one.wells.isel(dose_index=1, dose_2_index=1)) == 6
    # gamma was never tested alone: there is nothing to expect
    assert found.sel(pair="alpha + gamma").status.item() == "a compound has no wells by itself"
    assert found.excess.sel(pair="alpha + gamma").isnull().all()
