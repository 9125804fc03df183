"""A drift of the medium that is put in is found, with its error, and told apart from noise."""

import numpy as np
import pytest
import xarray as xr

from plates.morphology import medium_drift

START = np.datetime64("2026-03-14T09:00:00", "ns")


def plate(*, per_hour: float = 0.0, per_row: float = 0.0, noise: float = 2e-5, seed: int = 0) -> xr.Dataset:
    """Eight by six wells, two fields, two timepoints, visited in a random order."""
    rng = np.random.default_rng(seed)
    wells = [f"{row}{column:02d}" for row in "ABCDEFGH" for column in range(1, 7)]
    rows = np.repeat(np.arange(8), 6)
    minutes = rng.permutation(96).reshape(48, 2, 1) + np.array([0, 600])
    medium = 1.337 + per_hour * minutes / 60 + per_row * rows[:, None, None] + rng.normal(0, noise, (48, 2, 2))
    dims = ("well", "field", "timepoint")
    acquired = START + minutes.astype("timedelta64[m]")
    return xr.Dataset(
        {"medium_index": (dims, medium), "acquired": (dims, acquired)},
        coords={"well": wells, "field": [0, 1], "timepoint": [0, 1]},
    )


def test_a_drift_that_is_there_is_found_within_its_error() -> None:
    errors = []
    for seed in range(40):
        drift = medium_drift(plate(per_hour=1e-4, per_row=-3e-5, seed=seed)).isel(timepoint=1)
        errors.append((drift["time_slope"] - 1e-4) / drift["time_error"])
        errors.append((drift["row_slope"] + 3e-5) / drift["row_error"])
        assert drift["spread"] == pytest.approx(2e-5, rel=0.35)
    # standard errors that are right make standard normal deviates
    assert np.std(errors) == pytest.approx(1, abs=0.25)
    assert abs(np.mean(errors)) < 0.35


def test_a_plate_without_drift_has_slopes_near_zero() -> None:
    drift = medium_drift(plate())
    for term in ("time", "row", "column"):
        assert (abs(drift[f"{term}_slope"]) < 4 * drift[f"{term}_error"]).all()
    assert (drift["range"] < 3e-5).all()


def test_what_is_missing_or_cannot_be_told_apart_is_not_invented() -> None:
    fields = plate(per_hour=1e-4)
    fields["medium_index"][:45] = np.nan
    assert medium_drift(fields)["range"].isnull().all()  # six fields are left
    unknown = plate(per_row=1e-4)
    unknown["acquired"][...] = np.datetime64("NaT", "ns")
    drift = medium_drift(unknown)
    assert drift["time_slope"].isnull().all()
    np.testing.assert_allclose(drift["row_slope"], 1e-4, atol=1e-5)
    # visited row by row at an even pace: time and place are one
    ordered = plate(per_hour=1e-4)
    rows = np.repeat(np.arange(8), 6)[:, None, None] * np.ones((1, 2, 2))
    ordered["acquired"][...] = START + rows.astype("timedelta64[h]")
    drift = medium_drift(ordered)
    assert drift["time_slope"].isnull().all()
    assert drift["row_slope"].isnull().all()
    assert (drift["range"] >= 0).all()
