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
from screening.analysis.tables import tidy, undescribed, write_tables

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
def folder(results: dict[str, xr.Dataset], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tables")
    write_tables(results, out, parquet=False)
    return out


def test_every_column_of_every_table_is_in_the_dictionary(folder: Path) -> None:
    dictionary = pd.read_csv(folder / "dictionary.csv", keep_default_na=False)
    told = set(zip(dictionary["table"], dictionary["column"], strict=True))
    files = sorted(folder.glob("*.csv"))
    assert len(files) > 15
    for file in files:
        for column in pd.read_csv(file, nrows=1).columns:
            assert (file.stem, column) in told
    assert undescribed(dictionary) == []
    units = dictionary.set_index(["table", "column"])["unit"]
    assert units["ranking.compound", "ec50"] == "uM"
    assert units["kinetics.compound", "t_half_low"] == "h"


def test_no_number_is_lost_on_the_way_to_a_file(results: dict[str, xr.Dataset], folder: Path) -> None:
    table = pd.read_csv(folder / "fractions.well_timepoint_state.csv")
    stored = results["fractions"].fraction.to_series()
    read = table.set_index(["well", "timepoint", "state"])["fraction"].reindex(stored.index)
    assert read.to_numpy() == pytest.approx(stored.to_numpy(), rel=1e-12)
    # what belongs to the well stands beside it
    assert set(table["compound"]) >= {"DMSO", "apo", "flat"}
    ranking = pd.read_csv(folder / "ranking.compound.csv")
    assert list(ranking["compound"]) == list(results["ranking"].compound.values)
    points = pd.read_csv(folder / "dose_response.compound_readout_dose_index_replicate.csv")
    assert len(points) == int(results["dose_response"].response.notnull().sum())


def test_rules_and_settings_stand_in_the_attributes(folder: Path) -> None:
    table = pd.read_csv(folder / "attributes.csv").set_index(["result", "attribute"])["value"]
    assert "no_effect" in table["dose_response", "rule"]


def test_the_plates_name_goes_in_front(results: dict[str, xr.Dataset], tmp_path: Path) -> None:
    write_tables({"ranking": results["ranking"]}, tmp_path, plate="P1", parquet=False)
    assert pd.read_csv(tmp_path / "ranking.compound.csv").columns[0] == "plate"
    dictionary = pd.read_csv(tmp_path / "dictionary.csv", keep_default_na=False)
    assert ("ranking.compound", "plate") in set(zip(dictionary["table"], dictionary["column"], strict=True))


def test_parquet_holds_what_csv_holds(results: dict[str, xr.Dataset], tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    write_tables({"ranking": results["ranking"]}, tmp_path, parquet=True)
    parquet = pd.read_parquet(tmp_path / "ranking.compound.parquet")
    assert list(parquet.columns) == list(pd.read_csv(tmp_path / "ranking.compound.csv").columns)
    assert parquet["ec50_low"].to_numpy() == pytest.approx(results["ranking"].ec50_low.values, nan_ok=True)


def test_empty_places_and_missing_texts_make_no_rows() -> None:
    dataset = xr.Dataset(
        {"x": (("a", "b"), [[1.0, np.nan]]), "t": (("a", "b"), np.array([["", None]], dtype=object)), "one": 3},
        coords={"a": ["first"]},
    )
    tables = tidy("r", dataset)
    assert tables["r.a_b"].to_dict("records") == [{"a": "first", "b": 0, "x": 1.0, "t": ""}]
    assert tables["r"].to_dict("records") == [{"one": 3}]


def test_what_nobody_described_is_told(tmp_path: Path) -> None:
    write_tables({"r": xr.Dataset({"never_heard_of": ("compound", [1.0])})}, tmp_path, parquet=False)
    dictionary = pd.read_csv(tmp_path / "dictionary.csv", keep_default_na=False)
    assert undescribed(dictionary) == ["r.compound.never_heard_of"]
    described = xr.Dataset({"never_heard_of": ("compound", [1.0], {"long_name": "a length", "units": "um"})})
    write_tables({"r": described}, tmp_path, parquet=False)
    dictionary = pd.read_csv(tmp_path / "dictionary.csv", keep_default_na=False)
    assert undescribed(dictionary) == []


def test_endings_are_understood_and_unknown_words_are_not() -> None:
    assert meaning_of("ranking", "ec50_low_first")[0] == "uM"
    assert meaning_of("ranking", "ec50_low_first")[1].startswith("in the first analysis: lower end")
    assert meaning_of("ranking", "gibberish_low")[1] == UNDESCRIBED


def test_the_page_of_the_results_holds_the_whole_dictionary() -> None:
    page = (Path(__file__).parents[3] / "docs" / "results.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ")][1:]
    assert rows == [f"| {column} | {unit} | {meaning} |" for column, (unit, meaning) in MEANINGS.items()]
