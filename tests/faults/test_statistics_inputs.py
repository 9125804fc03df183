"""Controls and doses that say nothing (rows 30 and 31): a reason, no infinite number, no warning."""

import numpy as np
import pytest

from screening.analysis.control_statistics import control_statistics, z_prime
from screening.analysis.curves import fit_curves
from screening.analysis.normalization import normalize
from screening.analysis.quality import assess
from tests.screening.analysis.by_hand import fractions_of

COMPOUNDS = {"kills": {"apoptosis": (1.0, 1.5, 0.9)}}
DOSE = np.repeat([0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0], 3)
ROWS = {
    "all zero": np.zeros(24),
    "all one": np.ones(24),
    "one outlier": np.where(np.arange(24) == 5, 1e6, 0.2),
    "rises and falls": np.repeat([0.1, 0.8] * 4, 3),
    "nothing": np.full(24, np.nan),
    "one well": np.where(np.arange(24) == 0, 0.4, np.nan),
    "infinite": np.where(DOSE > 1, np.inf, 0.1),
}


@pytest.mark.parametrize(
    "dose",
    [DOSE, np.full(24, 1.0), np.where(DOSE > 1, np.nan, DOSE), np.full(24, np.nan), np.zeros(24)],
    ids=["eight doses", "one dose", "missing doses", "no dose", "vehicle only"],
)
def test_hostile_wells_get_a_status_and_no_ec50_outside_the_doses(dose: np.ndarray) -> None:
    fits = fit_curves(dose, np.array([*ROWS.values()]), robust=True)
    assert len(fits) == len(ROWS)
    assert fits["status"].notna().all()
    told = fits.loc[np.isfinite(fits["ec50"]) & (fits["status"] == "determined"), "ec50"]
    if told.size:
        assert told.between(np.nanmin(dose[dose > 0]), np.nanmax(dose)).all()
    assert not np.isinf(fits[["emax", "auc", "hill"]].to_numpy(dtype=float)).any()


def test_off_check_a_clean_curve_is_determined_in_the_same_call() -> None:
    clean = 0.05 + 0.9 / (1 + (0.5 / DOSE) ** 1.5) + np.random.default_rng(0).normal(0, 0.01, 24)
    fits = fit_curves(DOSE, np.array([*ROWS.values(), clean]), robust=True)
    last = fits.iloc[-1]
    assert 0.2 < last["ec50"] < 1.2
    assert (fits["ec50"].iloc[:2].isna() | np.isinf(fits["ec50"].iloc[:2])).all()


@pytest.mark.parametrize(
    ("positive", "negative"),
    [([], [0.1, 0.2]), ([0.9, 0.8], []), ([0.5, 0.5], [0.5, 0.5]), ([1.0] * 8, [0.0] * 8), ([0.9], [0.1]), ([], [])],
    ids=["no positive", "no negative", "identical", "no spread", "one each", "none"],
)
def test_controls_that_say_nothing_have_no_score(positive: list[float], negative: list[float]) -> None:
    found = control_statistics(np.array(positive), np.array(negative), draws=20)
    assert not any(np.isinf(values).any() for values in found.values())
    assert np.isnan(found["z_prime"])
    assert np.isnan(z_prime(np.array(positive), np.array(negative))).all()
    with np.errstate(all="ignore"):  # off-check: the formula alone divides by zero
        naive = 1 - 3 * np.float64(0) / np.abs(np.float64(0))
    assert np.isnan(naive) or np.isinf(naive)


@pytest.mark.parametrize(("vehicle", "inducers"), [(0, 2), (4, 0), (1, 1), (0, 0)])
def test_a_plate_without_controls_is_for_review_and_its_normalisation_says_why(vehicle: int, inducers: int) -> None:
    plate = fractions_of(COMPOUNDS, vehicle=vehicle, inducers=inducers, seed=5)
    quality = assess(plate, draws=20)
    assert quality.attrs["verdict"] == "REVIEW"
    assert not any(np.isinf(quality[name]).any() for name in quality.data_vars if quality[name].dtype.kind == "f")
    normalized = normalize(plate)
    assert not any(
        np.isinf(normalized[name]).any() for name in normalized.data_vars if normalized[name].dtype.kind == "f"
    )
