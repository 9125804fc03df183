"""`export` and the crate: every result in files, and where it came from in a form that others read."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from plates.errors import MissingInputError, SettingsError
from plates.results import read_result, write_result
from screening.crate import METADATA, PROFILE, recorded_run, write_crate
from screening.export import changed_settings, export, stored_results
from tests.reports.simulated import write_campaign, write_plate

START, END = "2026-03-02T09:00:00+00:00", "2026-03-02T11:30:00+01:00"


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write_plate(tmp_path_factory.mktemp("results"), name="P012", images=False)
    sources = xr.Dataset(
        {"name": ("source", np.array(["a.TCF", "a.TCF", "b.TCF"], dtype=object)),
         "path": ("source", np.array(["/secret/a.TCF", "/secret/a.TCF", "/secret/b.TCF"], dtype=object)),
         "sha256": ("source", np.array(["1" * 64, "1" * 64, "2" * 64], dtype=object)),
         "bytes": ("source", [10, 10, 20]), "format": ("source", np.array(["TCF"] * 3, dtype=object)),
         "instrument": ("source", np.array(["{}"] * 3, dtype=object))}
    )  # fmt: skip
    write_result(path, "sources", sources, provenance={})
    return path


@pytest.fixture(scope="module")
def exported(plate: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported")
    export(plate, out=out)
    return out


def test_every_result_but_single_patches_has_its_tables(plate: Path, exported: Path) -> None:
    written = {path.name.split(".")[1] for path in exported.glob("P012.*.csv")}
    stored = set(stored_results(plate))
    assert stored - {"probabilities"} <= written
    assert {"wells", "curves", "points", "ranking", "dictionary", "attributes"} <= written


def test_the_exported_numbers_are_the_stored_ones(plate: Path, exported: Path) -> None:
    fits = read_result(plate, "dose_response")
    curves = pd.read_csv(exported / "P012.curves.csv").set_index(["compound", "readout"])
    for compound in fits["compound"].values:
        stored = fits["ec50"].sel(compound=compound, readout="death").item()
        assert curves.loc[(compound, "death"), "ec50"] == stored or np.isnan(stored)


def test_no_number_is_lost_on_the_way_to_a_file(plate: Path, exported: Path) -> None:
    stored = read_result(plate, "fractions").fraction.to_series()
    table = pd.read_csv(exported / "P012.fractions.well_timepoint_state.csv", keep_default_na=False)
    read = table.set_index(["well", "timepoint", "state"])["fraction"].reindex(stored.index)
    np.testing.assert_array_equal(read.to_numpy(), stored.to_numpy())


def test_parquet_holds_what_csv_holds(plate: Path, exported: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    export(plate, out=tmp_path, table_format="parquet")
    assert {path.stem for path in tmp_path.glob("*.parquet")} == {path.stem for path in exported.glob("*.csv")}
    parquet = pd.read_parquet(tmp_path / "P012.dose_response.compound_readout.parquet")
    csv = pd.read_csv(exported / "P012.dose_response.compound_readout.csv", keep_default_na=False, na_values=[""])
    assert list(parquet.columns) == list(csv.columns)
    np.testing.assert_array_equal(parquet["ec50_low"].to_numpy(), csv["ec50_low"].to_numpy())


def test_text_that_a_spreadsheet_would_run_is_guarded_in_every_table(tmp_path: Path) -> None:
    hostile = "=HYPERLINK(1)"
    path = write_plate(tmp_path, name="P012", compounds=[hostile, "plain"], images=False)
    growth = xr.Dataset({"note": ("compound", ["+1 x"])}, {"compound": [hostile]}, {"@SUM(A1)": "-1+cmd"})
    write_result(path, "growth", growth, provenance={})
    export(path, out=tmp_path / "out")
    tables = {file.stem: pd.read_csv(file) for file in (tmp_path / "out").glob("*.csv")}
    for name, table in tables.items():
        for column in table.select_dtypes(exclude=["number", "bool"]):
            assert not table[column].astype(str).str.match(r"[=+\-@\t\r]").any(), (name, column)
    assert tables["P012.growth.compound"].to_numpy().tolist() == [[f"'{hostile}", "'+1 x"]]
    assert f"'{hostile}" in set(tables["P012.ranking"]["compound"])
    assert ("'@SUM(A1)", "'-1+cmd") in set(
        zip(tables["P012.attributes"]["attribute"], tables["P012.attributes"]["value"], strict=True)
    )


def test_rules_of_what_is_too_large_for_a_table_stand_in_the_attributes(exported: Path) -> None:
    table = pd.read_csv(exported / "P012.attributes.csv").set_index(["result", "attribute"])["value"]
    assert table["probabilities", "classifier"] == "demo-resnet18"


def test_the_dictionary_has_a_line_for_every_column(exported: Path) -> None:
    dictionary = pd.read_csv(exported / "P012.dictionary.csv", keep_default_na=False)
    for name in ("wells", "curves", "ranking"):
        columns = list(pd.read_csv(exported / f"P012.{name}.csv", nrows=1).columns)
        assert dictionary[dictionary["table"] == name]["column"].tolist() == columns
    meaning = dictionary.set_index(["table", "column"])["meaning"]
    assert meaning["wells", "apoptosis_fraction"].startswith("apoptosis: fraction of the well's patches")


def test_places_on_a_disk_are_not_exported(exported: Path) -> None:
    assert "path" not in pd.read_csv(exported / "P012.sources.source.csv").columns
    assert not any("/secret/" in path.read_text(encoding="utf-8") for path in exported.glob("*"))


def test_the_methods_text_lies_beside_the_tables(exported: Path) -> None:
    text = (exported / "P012.methods.txt").read_text(encoding="utf-8")
    assert "plate P012 of 96 wells" in text, "the plate's store was found beside its results"
    assert "\n\nReferences\n\n[1] " in text


def test_a_campaign_becomes_one_workbook(plate: Path, tmp_path: Path) -> None:
    campaign = write_campaign(plate.parent)
    written = export(campaign, out=tmp_path, table_format="xlsx", figure_format="html")
    sheets = pd.read_excel(tmp_path / "screen.xlsx", sheet_name=None)
    assert {"curves", "points", "ranking", "plates"} <= set(sheets)
    assert tmp_path / "screen_figures" / "potency_by_pathway.html" in written
    assert all(path.exists() for path in written)


def test_settings_that_are_not_the_defaults_are_found_in_the_provenance() -> None:
    record: dict[str, Any] = {"step": "analyse", "settings": {"seed": 5}}
    results = {"ranking": xr.Dataset(attrs={"provenance": json.dumps(record)})}
    assert changed_settings(results) == ["seed: 5 (default 0)"]
    assert changed_settings({"ranking": xr.Dataset()}) is None


def test_a_folder_without_results_is_told(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="no results to export"):
        export(tmp_path / "P9.zarr", out=tmp_path / "out")


def crate(folder: Path, **changed: Any) -> dict[str, Any]:
    run = recorded_run(folder, name="screen 1", started=START, ended=END, operator="A. Person")
    document: dict[str, Any] = json.loads(write_crate(folder, {**run, **changed}).read_text(encoding="utf-8"))
    return document


def entity(document: dict[str, Any], identifier: str) -> dict[str, Any]:
    (found,) = [one for one in document["@graph"] if one["@id"] == identifier]
    return dict(found)


def test_a_crate_has_the_shape_of_its_specification(plate: Path, tmp_path: Path) -> None:
    """RO-Crate 1.1: descriptor, root, every identifier once and every reference resolved inside the document."""
    results = write_plate(tmp_path, name="P012", images=False)
    write_result(results, "sources", read_result(plate, "sources"), provenance={})
    document = crate(tmp_path)
    descriptor, root = entity(document, METADATA), entity(document, "./")
    assert descriptor["about"] == {"@id": "./"}
    assert descriptor["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    assert {"name", "description", "datePublished", "license"} <= set(root)
    identifiers = [one["@id"] for one in document["@graph"]]
    assert len(identifiers) == len(set(identifiers))
    known = {*identifiers, "https://w3id.org/ro/crate/1.1"}
    for one in document["@graph"]:
        assert one["@type"]
        for value in one.values():
            for reference in value if isinstance(value, list) else [value]:
                assert not isinstance(reference, dict) or (set(reference) == {"@id"} and reference["@id"] in known)
    files = [one for one in document["@graph"] if one["@type"] in ("File", "Dataset") and one["@id"] != "./"]
    assert {one["@id"] for one in files} == {one["@id"] for one in root["hasPart"]}


def test_the_run_is_one_action_from_inputs_to_results(plate: Path, tmp_path: Path) -> None:
    results = write_plate(tmp_path, name="P012", images=False)
    write_result(results, "sources", read_result(plate, "sources"), provenance={})
    (tmp_path / "screen 1.html").write_text("page", encoding="utf-8")
    (tmp_path / ".hidden.partial").write_text("x", encoding="utf-8")
    (tmp_path / "P012.zarr.progress").mkdir(exist_ok=True)
    document = crate(tmp_path)
    assert entity(document, "./")["conformsTo"] == {"@id": PROFILE}
    action = entity(document, entity(document, "./")["mentions"]["@id"])
    assert action["@type"] == "CreateAction"
    assert (action["startTime"], action["endTime"]) == (START, END)
    assert action["actionStatus"] == "http://schema.org/CompletedActionStatus"
    assert entity(document, action["instrument"]["@id"])["@type"] == "SoftwareApplication"
    assert entity(document, action["agent"]["@id"])["name"] == "A. Person"
    objects = [entity(document, one["@id"]) for one in action["object"]]
    assert [one["name"] for one in objects] == ["demo-resnet18", "P012_map.csv", "a.TCF", "b.TCF"], "each file once"
    assert [one["sha256"] for one in objects] == ["3f" * 32, "ab" * 32, "1" * 64, "2" * 64]
    made = {one["@id"] for one in action["result"]}
    assert {"screen%201.html", "P012.results.zarr/", "P012.zarr/"} <= made
    assert not any("partial" in name or "progress" in name or METADATA in name for name in made)
    page = entity(document, "screen%201.html")
    assert page["sha256"] == hashlib.sha256(b"page").hexdigest()
    assert page["encodingFormat"] == "text/html"
    assert "/secret/" not in json.dumps(document)


def test_a_failed_run_says_why(tmp_path: Path) -> None:
    document = crate(tmp_path, error="disk full")
    action = entity(document, "#run")
    assert action["actionStatus"] == "http://schema.org/FailedActionStatus"
    assert action["error"] == "disk full"


def test_times_without_a_zone_and_results_elsewhere_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="Expected ISO 8601 with a zone"):
        crate(tmp_path, started="2026-03-02 09:00")
    for outside in ("../elsewhere.csv", "absent.csv"):
        (tmp_path.parent / "elsewhere.csv").touch()
        with pytest.raises(SettingsError, match="not in"):
            crate(tmp_path, outputs=[outside])


def test_somebody_elses_reader_opens_the_crate(tmp_path: Path) -> None:
    reader = pytest.importorskip("rocrate.rocrate", reason="rocrate is not installed")
    (tmp_path / "page.html").write_text("page", encoding="utf-8")
    crate(tmp_path, license="https://creativecommons.org/licenses/by/4.0/")
    opened = reader.ROCrate(tmp_path)
    assert opened.name == "screen 1"
    assert opened.get("#run")["instrument"].type == "SoftwareApplication"
    assert [one.id for one in opened.get("#run")["result"]] == ["page.html"]
