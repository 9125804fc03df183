"""The order of compounds, and the pathway named for each."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from screening.analysis.dose_response import fit_dose_response
from screening.analysis.kinetics import half_times
from screening.analysis.normalization import normalize
from screening.analysis.ranking import rank

from .by_hand import Kill, fractions_of

PATHWAYS = ("apoptosis", "necroptosis", "necrosis")


def ranked(compounds: dict[str, Kill], **settings: float) -> xr.Dataset:
    plates = [normalize(fractions_of(compounds, **settings))]  # type: ignore[arg-type]
    return rank(fit_dose_response(plates), half_times(plates), plates)


def test_order_follows_true_potency_and_pathways_are_named() -> None:
    ec50 = dict(zip([f"c{i}" for i in range(9)], np.geomspace(0.06, 8, 9), strict=True))
    compounds: dict[str, Kill] = {
        name: {PATHWAYS[i % 3]: (value, 1.5, 0.85)} for i, (name, value) in enumerate(ec50.items())
    }
    result = ranked(compounds, effective=100, seed=1)
    order = [ec50[name] for name in result.compound.values]
    assert stats.spearmanr(order, result["rank"]).statistic > 0.9
    for name in result.compound.values:
        assert result.dominant_pathway.sel(compound=name).item() == next(iter(compounds[name]))
    assert not result.dominant_tied.any()
    assert (result.dominant_share > 0.8).all()
    assert (result.score == result.ec50_bound).all()


def test_strata_come_first_potency_then_bounds_then_no_effect() -> None:
    result = ranked(
        {
            "flat": {},
            "weak": {"apoptosis": (60.0, 1.5, 0.9)},
            "good": {"necrosis": (1.0, 1.5, 0.9)},
            "potent": {"apoptosis": (0.002, 1.5, 0.9)},
        },
        effective=200,
        seed=2,
    )
    assert list(result.compound.values) == ["potent", "good", "weak", "flat"]
    assert list(result.stratum.values) == ["potency", "potency", "above tested doses", "no effect"]
    assert result.dominant_pathway.sel(compound="flat").item() == ""
    assert list(result["rank"].values) == [1, 2, 3, 4]


def test_two_pathways_within_error_are_tied() -> None:
    result = ranked(
        {"both": {"apoptosis": (0.3, 1.5, 0.44), "necrosis": (0.3, 1.5, 0.44)}, "one": {"apoptosis": (0.3, 1.5, 0.8)}},
        effective=60,
        seed=3,
    )
    assert bool(result.dominant_tied.sel(compound="both"))
    assert not bool(result.dominant_tied.sel(compound="one"))
    share = result.sel(compound="both")
    assert share.dominant_share_low < 0.5 < share.dominant_share_high


def test_a_switch_of_pathway_is_decided_at_the_active_doses() -> None:
    # necrosis takes over far above the EC50 of death; the few wells up there do not outvote the rest
    result = ranked({"x": {"apoptosis": (0.1, 2.0, 0.8), "necrosis": (100.0, 2.0, 0.1)}}, effective=150, seed=4)
    assert result.dominant_pathway.item() == "apoptosis"


def test_a_single_dose_is_ranked_by_effect_after_everything_with_a_curve() -> None:
    plates = [normalize(fractions_of({"a": {"necrosis": (1.0, 2.0, 0.9)}, "b": {}}, doses=(10.0,), seed=5))]
    result = rank(fit_dose_response(plates), half_times(plates), plates)
    assert list(result.compound.values) == ["a", "b"]
    assert set(result.stratum.values) == {"not fitted"}
    assert result.dominant_pathway.values[0] == "necrosis"


def test_the_order_does_not_depend_on_the_order_of_wells() -> None:
    plate = fractions_of({"b": {"apoptosis": (1.0, 1.5, 0.9)}, "a": {"apoptosis": (0.5, 1.5, 0.9)}, "flat": {}}, seed=6)
    shuffled = plate.isel(well=np.random.default_rng(0).permutation(plate.sizes["well"]))
    results = []
    for one in (plate, shuffled):
        plates = [normalize(one)]
        results.append(rank(fit_dose_response(plates), half_times(plates), plates))
    assert list(results[0].compound.values) == list(results[1].compound.values)
    assert results[0].ec50.values == pytest.approx(results[1].ec50.values, rel=1e-5, nan_ok=True)


def test_the_table_holds_intervals_of_ranks_ties_hits_and_each_quality_on_its_own() -> None:
    result = ranked(
        {
            "flat": {},
            "good": {"necrosis": (1.0, 1.5, 0.9)},
            "close": {"necrosis": (1.15, 1.5, 0.6)},
            "potent": {"apoptosis": (0.05, 1.5, 0.9)},
        },
        effective=200,
        seed=7,
    )
    by_name = {str(name): result.sel(compound=name) for name in result.compound.values}
    assert result.compound.values[0] == "potent"
    assert (int(by_name["potent"].rank_low), int(by_name["potent"].rank_high)) == (1, 1)
    assert int(by_name["good"].rank_low) == 2
    assert int(by_name["flat"].rank_low) == 4
    assert int(by_name["good"].tie_group) == int(by_name["close"].tie_group) != int(by_name["potent"].tie_group)
    assert int(by_name["good"].ties) == 1
    assert by_name["close"].efficacy_rank == 3
    assert by_name["flat"].efficacy_rank == by_name["flat"].potency_rank == by_name["flat"].speed_rank == 0
    assert [bool(by_name[name].hit) for name in ("potent", "good", "close", "flat")] == [True, True, True, False]
    assert by_name["flat"].hit_reason != ""
    assert result.attrs["msr_source"].startswith("no reference compound")
    assert "adjusted p of at most 0.05" in result.attrs["hit_rule"]


def test_a_single_dose_has_hits_by_its_wells_against_vehicle() -> None:
    compounds: dict[str, Kill] = {"a": {"necrosis": (1.0, 2.0, 0.9)}, **{f"flat{k}": {} for k in range(8)}}
    plates = [normalize(fractions_of(compounds, doses=(10.0,), seed=5))]
    result = rank(fit_dose_response(plates), half_times(plates), plates)
    assert result.hit.sel(compound="a")
    assert int(result.hit.sum()) == 1
    assert result.hit_p_value.notnull().all()


@pytest.mark.parametrize("spoil", [np.nan, 0.0, 1.0])
def test_no_score_is_infinite_whatever_the_wells_hold(spoil: float) -> None:
    plate = fractions_of({"x": {"apoptosis": (1.0, 1.5, 0.9)}, "flat": {}}, seed=8)
    treated = plate.control.values == "none"
    plate["fraction"][treated] = spoil
    plate["death"][treated] = min(3 * spoil, 1.0)
    plates = [normalize(plate)]
    result = rank(fit_dose_response(plates), half_times(plates), plates)
    assert not np.isinf(result.score.values.astype(float)).any()
    assert not np.isinf(result.attrs["msr"])
    assert (result.rank_low >= 1).all()
    assert (result.rank_high <= result.sizes["compound"]).all()
