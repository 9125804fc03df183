"""Hits: the rate of false ones, and every reason for not being one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from screening.analysis.hits import HitRule, against_vehicle, call_hits


def table(**columns: Sequence[object]) -> pd.DataFrame:
    return pd.DataFrame({"emax": 0.8, "emax_low": 0.6, "status": "quantified", **columns})


def test_benjamini_and_hochbergs_own_example() -> None:
    # Benjamini and Hochberg 1995, section 3.2: at 0.05 the four smallest of fifteen are rejected
    p = [
        0.0001,
        0.0004,
        0.0019,
        0.0095,
        0.0201,
        0.0278,
        0.0298,
        0.0344,
        0.0459,
        0.3240,
        0.4262,
        0.5719,
        0.6528,
        0.7590,
        1,
    ]
    found = call_hits(table(p_value=p))
    assert list(found["hit"]) == [True] * 4 + [False] * 11


def test_every_refusal_has_its_reason() -> None:
    found = call_hits(
        table(
            p_value=[1e-9, 1e-9, 1e-9, 0.9, np.nan, 1e-9, 1e-9],
            emax=[0.8, -0.4, 0.8, 0.8, 0.8, 0.8, 0.2],
            emax_low=[0.6, -0.5, 0.6, 0.6, 0.6, np.nan, 0.05],
            status=["quantified", "inverse", "no_effect", "quantified", "not_fitted", "quantified", "quantified"],
        )
    )
    assert list(found["hit"]) == [True, *[False] * 6]
    assert list(found["hit_reason"]) == [
        "",
        "fewer deaths than vehicle",
        "no effect by the rule of the curves",
        "adjusted p above 0.05",
        "no p value: too few wells to test",
        "no interval of the effect",
        "the effect may be below 0.1",
    ]


@pytest.mark.parametrize("p", [[], [np.nan, np.nan], [np.inf, -1.0], [2.0, 0.5]])
def test_hostile_p_values_make_no_hit_and_no_warning(p: list[float]) -> None:
    found = call_hits(table(p_value=p) if p else table(p_value=[1.0]).iloc[:0])
    assert not found["hit"].any()
    assert len(found) == len(p)


def test_a_rule_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="fdr 0"):
        HitRule(fdr=0)


def drawn(rng: np.random.Generator, *, inert: int, killers: int, wells: int = 1, plates: int = 2) -> pd.DataFrame:
    rows = []
    for plate in range(plates):
        base = rng.normal(0.05, 0.02)
        rows += [("DMSO", f"P{plate}", True, np.nan, base + rng.normal(0, 0.02)) for _ in range(16)]
        for number in range(inert + killers):
            mean = base + (0.5 if number >= inert else 0.0)
            rows += [
                (f"c{number}", f"P{plate}", False, 1.0, mean + rng.normal(0, 0.02 if number < inert else 0.08))
                for _ in range(wells)
            ]
    return pd.DataFrame(rows, columns=["compound", "plate", "vehicle", "log_dose", "death"])


def test_p_values_of_single_wells_against_vehicle_are_uniform_without_effect() -> None:
    rng = np.random.default_rng(0)
    p = np.concatenate([against_vehicle(drawn(rng, inert=20, killers=3))["p_value"][:20] for _ in range(40)])
    for alpha in (0.01, 0.05, 0.2):
        assert (p <= alpha).mean() == pytest.approx(alpha, rel=0.5)


def test_the_interval_of_a_killers_effect_holds_it_though_dying_wells_scatter_more() -> None:
    rng = np.random.default_rng(1)
    held = []
    for _ in range(30):
        found = against_vehicle(drawn(rng, inert=10, killers=10, wells=2)).iloc[10:]
        held += list((found["effect_low"] <= 0.5) & (found["effect_high"] >= 0.5))
    assert np.mean(held) > 0.9


def test_a_compound_without_vehicle_on_its_plate_has_no_p_value() -> None:
    frame = pd.DataFrame(
        {"compound": ["a", "a"], "plate": "P1", "vehicle": False, "log_dose": [0.0, 1.0], "death": [0.1, 0.9]}
    )
    found = against_vehicle(frame)
    assert found["p_value"].isna().all()
    alike = pd.concat([frame, frame.assign(compound="DMSO", vehicle=True, death=0.1)])
    assert against_vehicle(alike)["p_value"].isna().all()
