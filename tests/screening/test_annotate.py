"""`tomoscreen annotate`: from a stained plate to a table that training reads, a person's word first."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from models.annotations import read_annotations
from plates.errors import MissingInputError, SettingsError
from plates.states import DEAD
from screening.annotate import Annotation, Options, annotate_plate, describe, read_options, whole_numbers
from tests.benchmarks.annotation import OPTIONS, compared, make_plate
from tests.plates.annotation.stained_plates import WELLS, stained_plate

QUICK = Options(per_state=2)


def annotate(folder: Path, *, options: Options = QUICK, **changes: Any) -> Annotation:
    return annotate_plate(stained_plate(folder, **changes).path, options=options)


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stained plate that is only copied."""
    return stained_plate(tmp_path_factory.mktemp("stock")).path


@pytest.fixture
def plate(stock: Path, tmp_path: Path) -> Path:
    """A stained plate of the test's own."""
    shutil.copytree(stock.parent, tmp_path, dirs_exist_ok=True)
    return tmp_path / stock.name


@pytest.fixture(scope="module")
def annotation(stock: Path, tmp_path_factory: pytest.TempPathFactory) -> Annotation:
    return annotate_plate(stock, out=tmp_path_factory.mktemp("annotated") / "S1.annotations.csv", options=QUICK)


def states(annotation: Annotation) -> dict[str, str]:
    """The one state of each well's patches, or all of them."""
    return {str(well): "/".join(sorted(set(rows["state"]))) for well, rows in annotation.table.groupby("well")}


def test_every_well_gets_the_state_that_stains_and_plate_map_give_it(annotation: Annotation) -> None:
    assert states(annotation) == {
        "A01": "live-control",
        "A02": "live-control",
        "B01": "apoptosis",
        "B02": "necrosis",
        "C01": "live-treated",
        "C02": "undecided",
    }
    assert len(annotation.table) == len(WELLS) * 2 * 9
    assert "necroptosis" in " ".join(annotation.warnings)


def test_training_reads_the_table_and_leaves_undecided_patches_out(annotation: Annotation, stock: Path) -> None:
    read = read_annotations(annotation.csv)
    assert len(read) == (annotation.table["state"] != "undecided").sum()
    assert set(read["plate"]) == {str(stock.resolve())}


def test_what_a_person_changed_survives_the_same_command_again(plate: Path, tmp_path: Path) -> None:
    first = annotate_plate(plate, options=QUICK)
    rows = pd.read_csv(first.csv, keep_default_na=False)
    chosen = rows.index[rows["well"] == "C02"][0]
    rows.loc[chosen, ["state", "corrected_by"]] = ["necroptosis", "AB"]
    rows.to_csv(first.csv, index=False)
    for _ in range(2):
        again = annotate_plate(plate, options=replace(QUICK, annexin="200", pi="300"))
        row = again.table.iloc[chosen]
        assert row[["state", "rule", "corrected_by"]].tolist() == ["necroptosis", "by hand", "AB"]
        assert (again.table["rule"] == "by hand").sum() == 1
    elsewhere = annotate_plate(plate, out=tmp_path / "other" / "new.csv", corrections=first.csv, options=QUICK)
    assert elsewhere.table.iloc[chosen]["state"] == "necroptosis"


def test_regions_go_over_gates_and_a_person_over_regions(plate: Path, tmp_path: Path) -> None:
    corners = [[0, 0], [320, 0], [320, 160], [0, 160], [0, 0]]
    region = {"geometry": {"type": "Polygon", "coordinates": [corners]}, "properties": {"state": "necroptosis"}}
    (tmp_path / "C02_f0_t0.geojson").write_text(json.dumps({"features": [region]}))
    first = annotate_plate(plate, regions=tmp_path / "C02_f0_t0.geojson", options=QUICK)
    drawn = first.table[first.table["rule"].str.startswith("by region")]
    assert drawn["state"].tolist() == ["necroptosis"] * 2
    assert set(drawn["rule"]) == {"by region (C02_f0_t0.geojson)"}
    rows = pd.read_csv(first.csv, keep_default_na=False)
    rows.loc[drawn.index[0], "state"] = "apoptosis"
    rows.loc[drawn.index[0], "corrected_by"] = "AB"
    rows.to_csv(first.csv, index=False)
    again = annotate_plate(plate, regions=tmp_path / "C02_f0_t0.geojson", options=QUICK)
    assert again.table.loc[drawn.index, "state"].tolist() == ["apoptosis", "necroptosis"]


def test_a_plate_without_stains_is_annotated_by_regions_alone(tmp_path: Path) -> None:
    plate = stained_plate(tmp_path, channels=()).path
    with pytest.raises(SettingsError, match="holds no fluorescence"):
        annotate_plate(plate, options=QUICK)
    corners = [[0, 0], [480, 0], [480, 480], [0, 480], [0, 0]]
    region = {"geometry": {"type": "Polygon", "coordinates": [corners]}, "properties": {"state": "Live treated"}}
    (tmp_path / "C01_f0_t1.json").write_text(json.dumps([region]))
    found = annotate_plate(plate, regions=tmp_path / "C01_f0_t1.json", options=QUICK)
    assert (found.table["state"] == "live-treated").sum() == 9
    assert set(found.table.loc[found.table["state"] == "undecided", "rule"]) == {"no fluorescence"}


def test_masked_wells_are_neither_annotated_nor_used_for_gates(tmp_path: Path) -> None:
    # a masked vehicle well full of stained cells would pull the gate up
    wells = {**WELLS, "A03": ("negative", "", "DMSO", True)}
    found = annotate(tmp_path, wells=wells, masked=["A03"])
    assert "A03" not in states(found)
    gate = found.gates["pi"].plate
    assert gate is not None
    assert gate.vehicle_share == 0
    assert any("Left out as masked in the plate map: A03" in note for note in found.markers.notes)


@pytest.mark.parametrize(
    ("lost", "words"), [("negative", "no vehicle wells"), ("positive", "no wells with an inducer")]
)
def test_without_controls_a_page_but_no_table_is_written_and_a_given_gate_helps(
    tmp_path: Path, lost: str, words: str
) -> None:
    wells = {well: one for well, one in WELLS.items() if one[0] != lost}
    plate = stained_plate(tmp_path, wells=wells).path
    with pytest.raises(SettingsError, match=r"no patch got a state, so no table was written.*--annexin.*shows the"):
        annotate_plate(plate, options=QUICK)
    assert plate.with_name("S1.annotations.html").exists()
    assert not plate.with_name("S1.annotations.csv").exists()
    found = annotate_plate(plate, options=replace(QUICK, annexin="200", pi="300-400"))
    assert any(words in text for text in found.warnings)
    assert "live-treated" in set(found.table["state"])


def test_inducers_that_kill_nothing_are_refused(tmp_path: Path) -> None:
    wells = {well: (*one[:3], False) for well, one in WELLS.items()}
    with pytest.raises(SettingsError, match="no patch got a state"):
        annotate(tmp_path, wells=wells)


def test_unknown_channels_are_told_with_the_options_and_used_when_named(tmp_path: Path) -> None:
    plate = stained_plate(tmp_path, channels=("CH0", "CH1", "CH2")).path
    with pytest.raises(SettingsError, match=r"No channel was recognised as Hoechst or annexin V or PI.*'CH0'"):
        annotate_plate(plate, options=QUICK)
    named = replace(QUICK, hoechst_channel="ch0", annexin_channel="CH1", pi_channel="CH2")
    assert states(annotate_plate(plate, options=named))["B01"] == "apoptosis"


def test_channels_without_names_are_known_by_their_emission(tmp_path: Path) -> None:
    emission = {"CH0": 0.45, "CH1": 0.525, "CH2": 0.617}
    found = annotate(tmp_path, channels=("CH0", "CH1", "CH2"), emission_um=emission)
    assert found.markers.channels == {"hoechst": "CH0", "annexin_v": "CH1", "pi": "CH2"}


def test_two_channels_of_one_stain_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="'Hoechst', 'DAPI' may all be Hoechst"):
        annotate(tmp_path, channels=("Hoechst", "DAPI", "Annexin V", "PI"))


@pytest.mark.parametrize(
    ("registration", "usable"),
    [
        ({"trusted": False, "residual_um": np.nan}, False),
        ({"trusted": False, "residual_um": 5.0}, False),
        ({"trusted": False, "residual_um": 1.4}, True),
        ({"frame": -1}, False),
    ],
)
def test_fluorescence_of_unsure_place_is_not_used(tmp_path: Path, registration: dict[str, Any], usable: bool) -> None:
    plate = stained_plate(tmp_path, registration=registration).path
    if usable:
        assert states(annotate_plate(plate, options=QUICK))["B02"] == "necrosis"
        return
    with pytest.raises(SettingsError, match="no patch got a state"):
        annotate_plate(plate, options=QUICK)
    if registration.get("frame") != -1:
        assert states(annotate_plate(plate, options=replace(QUICK, believe_metadata=True)))["B02"] == "necrosis"


def test_wells_that_the_camera_did_not_see_are_undecided(tmp_path: Path) -> None:
    found = annotate(tmp_path, unseen=["C01"])
    rules = found.table.loc[found.table["well"] == "C01", "rule"]
    assert set(rules) == {"cells without a nucleus in Hoechst"}


def test_frames_restrict_what_is_looked_at_and_where_states_are_taken(plate: Path) -> None:
    assert set(
        annotate_plate(plate, options=replace(QUICK, frames=(1,), annexin="200", pi="300")).table["timepoint"]
    ) == {1}
    (plate.with_name("S1.annotations.csv")).unlink()
    study = annotate_plate(plate, options=replace(QUICK, live_frames=(0,), dead_frames=(1,)))
    taken = study.table[study.table["state"] != "undecided"].groupby("state")["timepoint"].agg(set)
    assert taken.to_dict() == {"apoptosis": {1}, "live-control": {0}, "live-treated": {0}, "necrosis": {1}}
    with pytest.raises(SettingsError, match="--frames names timepoint 7"):
        annotate_plate(plate, options=replace(QUICK, frames=(7,)))


def test_overlapping_windows_give_more_patches(plate: Path) -> None:
    found = annotate_plate(plate, options=replace(QUICK, stride=80))
    assert len(found.table) == len(WELLS) * 2 * 25


def test_equal_runs_write_equal_files(plate: Path) -> None:
    first = annotate_plate(plate, options=QUICK)
    before = (first.csv.read_bytes(), first.page.read_bytes())
    again = annotate_plate(plate, options=QUICK)
    assert (again.csv.read_bytes(), again.page.read_bytes()) == before


def test_the_summary_counts_states_and_repeats_warnings(annotation: Annotation) -> None:
    text = "\n".join(describe(annotation))
    assert "108 patches" in text
    assert "apoptosis     18" in text
    assert "gate of PI" in text
    assert "Warning: No patch is necroptosis." in text


def test_a_settings_file_gives_the_options_and_the_command_line_goes_over_it(tmp_path: Path) -> None:
    path = tmp_path / "annotation.toml"
    path.write_text('[annotation]\nannexin = "300-400"\npi = 200\nlive_frames = [0, 1]\npurity = 0.7\n')
    read = read_options(path, pi="250", purity=None)
    assert read == Options(annexin="300-400", pi="250", live_frames=(0, 1), purity=0.7)
    assert read.gates == {"annexin_v": (300, 400), "pi": (250, 250)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("anexin = 3", "the key 'anexin' is not known. Did you mean 'annexin'"),
        ("frames = 3", r"frames is 3. Expected a list of timepoints such as \[0, 1\]"),
        ('stride = "80"', "stride is '80'. Expected such as 160"),
        ("stride = 200", "stride is 200. Expected 16 to 160"),
        ("believe_metadata = 1", "believe_metadata is 1. Expected such as False"),
        ('pi = "400-300"', "--pi: the gate is 400 to 300"),
        ("purity = ", "cannot be read as TOML"),
    ],
)
def test_a_wrong_settings_file_is_refused_naming_the_key(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "annotation.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=message):
        read_options(path)


def test_timepoints_are_read_as_lists_and_ranges() -> None:
    assert whole_numbers("0,1, 30-32", option="--frames") == (0, 1, 30, 31, 32)
    for text in ("", "a", "3-1", "-1"):
        with pytest.raises(SettingsError, match="--frames got"):
            whole_numbers(text, option="--frames")


def test_a_missing_table_of_corrections_and_another_kind_of_output_are_refused(tmp_path: Path) -> None:
    plate = stained_plate(tmp_path, patches=1, timepoints=1).path
    with pytest.raises(MissingInputError, match="no table of corrections"):
        annotate_plate(plate, corrections=tmp_path / "none.csv")
    with pytest.raises(SettingsError, match="the table is a CSV file"):
        annotate_plate(plate, out=tmp_path / "table.xlsx")


def test_states_agree_with_the_truth_of_a_simulated_plate(tmp_path: Path) -> None:
    store, truth = make_plate(
        tmp_path, seed=77, compounds=1, doses_um=(0.01,), vehicles=3, inducers=1, hours=(12.0, 16.0), size=480,
        registered=False,
    )  # fmt: skip
    found = annotate_plate(store, options=replace(OPTIONS, believe_metadata=True))
    patches = compared(found, truth)
    decided = patches[patches["state"] != "undecided"]
    assert len(decided) >= 30
    assert set(decided["state"]) >= {"live-control", "live-treated"}
    assert (decided["state"] == decided["meant"]).mean() >= 0.95
    dead = decided[decided["state"].isin(DEAD)]
    assert len(dead) >= 5
    assert (dead["state"] == dead["truth"]).all()
