"""Plate maps that do not lie as the plate did are found; those that do are not accused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from plates.layout.roles import roles, vehicles
from screening.analysis.layout_fit import fit_layout, strange_controls
from screening.analysis.peers import peer_weights, replicate_groups

from .planted import LAYOUTS, laid_wrongly, planted_plate


def _frame(plate: xr.Dataset) -> pd.DataFrame:
    names = ("row", "column", "compound", "dose", "inducer", "cell_line")
    return pd.DataFrame({name: plate[name].values for name in names}).assign(role=roles(plate), vehicle=vehicles(plate))


def _fit(plate: xr.Dataset, shape: tuple[int, int] = (16, 24)) -> pd.DataFrame:
    values = np.column_stack([plate.death.values[:, 0], plate.fraction.values[:, 0, :3]])
    return fit_layout(values, _frame(plate), shape=shape)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("way", "told"), [("turned", "turned by 180 degrees"), ("shifted", "shifted left by one column")]
)
def test_a_plate_that_lay_otherwise_is_told(layout: str, way: str, told: str) -> None:
    found = _fit(laid_wrongly(planted_plate(layout=layout, seed=3), way))
    assert list(found.loc[found["better"] & (found["kind"] != "exchanged"), "way"]) == [told]


def test_exchanged_columns_are_named() -> None:
    found = _fit(laid_wrongly(planted_plate(seed=4), "columns 3 15"))
    assert found["way"][int(found["gain"].argmax())] == "with columns 4 and 16 exchanged"


def test_a_transposed_square_of_wells_is_told() -> None:
    plate = planted_plate(shape=(8, 8), vehicle=8, inducers=4, seed=5)
    found = _fit(laid_wrongly(plate, "transposed", (8, 8)), (8, 12))
    assert "with rows and columns exchanged" in set(found.loc[found["better"], "way"])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("seed", range(4))
def test_plates_that_lie_as_the_map_says_are_not_accused(layout: str, seed: int) -> None:
    assert not _fit(planted_plate(layout=layout, seed=seed))["better"].any()
    assert not _fit(planted_plate(layout=layout, active=0.0, edge=0.2, gradient=0.2, seed=seed))["better"].any()


def test_a_layout_that_looks_the_same_turned_cannot_tell() -> None:
    rows, columns = np.divmod(np.arange(96), 12)
    positive = (columns == 0) | (columns == 11)
    frame = pd.DataFrame({"row": rows, "column": columns, "compound": "x", "dose": 0.0, "cell_line": "", "vehicle": ""})
    frame = frame.assign(role=np.where(positive, "positive", "negative"), inducer=np.where(positive, "apoptosis", ""))
    values = np.where(positive, 0.9, 0.05)[:, None] + np.random.default_rng(6).normal(0, 0.02, (96, 1))
    found = fit_layout(values, frame, shape=(8, 12)).set_index("way")
    assert found.loc["turned by 180 degrees", "status"] == "the layout looks the same that way"
    assert not found["better"].any()


def test_wells_are_predicted_from_others_only() -> None:
    frame = _frame(planted_plate(seed=7))
    weights = peer_weights(frame)
    assert not weights.diagonal().any()
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    groups = replicate_groups(frame)
    assert np.bincount(groups).max() == 32
    assert np.bincount(groups)[groups[(frame["role"] == "none").to_numpy()]].max() == 3


def test_a_dose_without_replicate_is_predicted_from_its_neighbours() -> None:
    frame = pd.DataFrame(
        {"role": "none", "compound": "a", "dose": [3.0, 1.0, 10.0], "inducer": "", "vehicle": "", "cell_line": ""}
    )
    np.testing.assert_allclose(peer_weights(frame) @ np.array([5.0, 1.0, 9.0]), [5.0, 5.0, 5.0])


def test_control_wells_that_look_like_the_other_kind_are_named_and_tight_ones_are_not() -> None:
    rng = np.random.default_rng(8)
    values = np.concatenate([rng.normal(0.04, 0.005, 16), rng.normal(0.9, 0.03, 12)])
    role = np.array(["negative"] * 16 + ["positive"] * 12)
    values[2], values[20], values[5] = 0.8, 0.1, 0.08
    assert list(np.flatnonzero(strange_controls(values, role))) == [2, 20]
    assert not strange_controls(np.full(28, np.nan), role).any()


@pytest.mark.parametrize("filled", [np.nan, np.inf, 0.3])
def test_hostile_values_accuse_nobody(filled: float) -> None:
    plate = planted_plate(seed=9)
    hostile = plate.assign(death=xr.full_like(plate.death, filled), fraction=xr.full_like(plate.fraction, filled))
    assert not _fit(hostile)["better"].any()
