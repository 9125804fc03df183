"""Tables of the results: complete, tidy, and every column described."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from screening.analysis.dictionary import MEANINGS, UNDESCRIBED, meaning_of
from screening.analysis.dose_response import fit_dose_response
from screening.analysis.kinetics import half_times
from screening.analysis.normalization import normalize
from screening.analysis.quality import assess
from screening.analysis.ranking import rank
from screening.analysis.reference_trend import batch_effects, plate_agreement, reference_trend
from screening.analysis.tables import described_tables, tidy, undescribed

from .by_hand import fractions_of


@pytest.fixture(scope="module")
def results() -> dict[str, xr.Dataset]:
    fractions = fractions_of({"apo": {"apoptosis": (0.3, 1.5, 0.9)}, "flat": {}})
    normalized = normalize(fractions).assign_attrs(plate="P1")
    fits, courses = fit_dose_response([normalized]), half_times([normalized], draws=20)
    return {
        "fractions": fractions,
        "normalized": normalized,
        "quality": assess(fractions),
        "dose_response": fits,
        "kinetics": courses,
        "ranking": rank(fits, courses, [normalized]),
        "reference_trend": reference_trend({"P1": fits}, {"P1": normalized}),
        "agreement": plate_agreement([normalized]),
        "batches": batch_effects([normalized]),
    }


@pytest.fixture(scope="module")
def tables(results: dict[str, xr.Dataset]) -> dict[str, pd.DataFrame]:
    return described_tables(results)


def test_every_column_of_every_table_is_in_the_dictionary(tables: dict[str, pd.DataFrame]) -> None:
    dictionary = tables["dictionary"]
    told = set(zip(dictionary["table"], dictionary["column"], strict=True))
    assert len(tables) > 15
    assert told == {(name, column) for name, table in tables.items() for column in table.columns}
    assert undescribed(dictionary) == []
    units = dictionary.set_index(["table", "column"])["unit"]
    assert units["ranking.compound", "ec50"] == "uM"
    assert units["kinetics.compound", "t_half_low"] == "h"


def test_no_number_is_lost_on_the_way_to_a_table(
    results: dict[str, xr.Dataset], tables: dict[str, pd.DataFrame]
) -> None:
    table = tables["fractions.well_timepoint_state"]
    stored = results["fractions"].fraction.to_series()
    read = table.set_index(["well", "timepoint", "state"])["fraction"].reindex(stored.index)
    np.testing.assert_array_equal(read.to_numpy(), stored.to_numpy())
    # what belongs to the well stands beside it
    assert set(table["compound"]) >= {"DMSO", "apo", "flat"}
    assert list(tables["ranking.compound"]["compound"]) == list(results["ranking"].compound.values)
    points = tables["dose_response.compound_readout_dose_index_replicate"]
    assert len(points) == int(results["dose_response"].response.notnull().sum())


def test_rules_and_settings_stand_in_the_attributes(tables: dict[str, pd.DataFrame]) -> None:
    table = tables["attributes"].set_index(["result", "attribute"])["value"]
    assert "no_effect" in table["dose_response", "rule"]


def test_the_plates_name_goes_in_front(results: dict[str, xr.Dataset]) -> None:
    made = described_tables({"ranking": results["ranking"]}, plate="P1")
    assert made["ranking.compound"].columns[0] == "plate"
    assert set(made["ranking.compound"]["plate"]) == {"P1"}
    dictionary = made["dictionary"]
    assert ("ranking.compound", "plate") in set(zip(dictionary["table"], dictionary["column"], strict=True))
    assert undescribed(dictionary) == []


def test_tables_beside_a_page_are_described_by_the_results_they_were_made_of(results: dict[str, xr.Dataset]) -> None:
    beside = {
        "curves": pd.DataFrame({"compound": ["apo"], "reasons": [""]}),
        "wells": pd.DataFrame({"well": ["A01"], "hours": [0.0], "apoptosis_fraction": [0.5]}),
    }
    # a result that nobody made the wells of has a column of the same name
    other = xr.Dataset({"hours": ("well", [0.0], {"long_name": "something else"})})
    made = described_tables({"a_stranger": other, **results}, beside=beside)
    meaning = made["dictionary"].set_index(["table", "column"])["meaning"]
    assert meaning["curves", "reasons"] == MEANINGS["dose_response.reasons"][1] != MEANINGS["reasons"][1]
    assert meaning["wells", "hours"] == MEANINGS["hours"][1]
    assert meaning["wells", "apoptosis_fraction"] == f"apoptosis: {MEANINGS['fraction'][1]}"
    assert list(made)[:2] == ["curves", "wells"]


def test_tables_are_the_same_in_whatever_order_a_store_gives_its_arrays(results: dict[str, xr.Dataset]) -> None:
    fits = results["dose_response"]
    turned = fits[list(reversed(list(fits.data_vars)))]
    assert list(turned.sizes) != list(fits.sizes), "the dimensions come in another order too"
    one, other = tidy("dose_response", fits), tidy("dose_response", turned)
    assert list(one) == list(other)
    for name, table in one.items():
        pd.testing.assert_frame_equal(table, other[name])


def test_empty_places_and_missing_texts_make_no_rows() -> None:
    dataset = xr.Dataset(
        {"x": (("a", "b"), [[1.0, np.nan]]), "t": (("a", "b"), np.array([["", None]], dtype=object)), "one": 3},
        coords={"a": ["first"]},
    )
    tables = tidy("r", dataset)
    assert tables["r.a_b"].to_dict("records") == [{"a": "first", "b": 0, "x": 1.0, "t": ""}]
    assert tables["r"].to_dict("records") == [{"one": 3}]


def test_what_nobody_described_is_told() -> None:
    made = described_tables({"r": xr.Dataset({"never_heard_of": ("compound", [1.0])})})
    assert undescribed(made["dictionary"]) == ["r.compound.never_heard_of"]
    described = xr.Dataset({"never_heard_of": ("compound", [1.0], {"long_name": "a length", "units": "um"})})
    assert undescribed(described_tables({"r": described})["dictionary"]) == []


def test_endings_are_understood_and_unknown_words_are_not() -> None:
    assert meaning_of("ranking", "ec50_low_first")[0] == "uM"
    assert meaning_of("ranking", "ec50_low_first")[1].startswith("in the first analysis: lower end")
    assert meaning_of("ranking", "gibberish_low")[1] == UNDESCRIBED


def test_the_page_of_the_results_holds_the_whole_dictionary() -> None:
    page = (Path(__file__).parents[3] / "docs" / "results.md").read_text(encoding="utf-8")
    table = page[page.index("| column | unit | meaning |") :]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert rows == [f"| {column} | {unit} | {meaning} |" for column, (unit, meaning) in MEANINGS.items()]
