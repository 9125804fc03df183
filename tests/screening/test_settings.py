"""screen.toml: read whole and right, or refused with every fault, its line and the nearest key."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from plates.errors import MissingInputError, SettingsError
from screening.analysis.field_quality import FieldRule
from screening.analysis.verdict import Rule
from screening.quality_settings import QualitySettings
from screening.settings import EXAMPLE, PlateSettings, Settings, read_settings, write_example

MINIMAL = """\
[campaign]
name = "demo"

[[plates]]
name = "P1"
acquisitions = "raw"
layout = "map.csv"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "raw").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "map.csv").write_text("well,compound\n")
    return tmp_path


def written(folder: Path, text: str) -> Path:
    path = folder / "screen.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(SettingsError) as caught:
        read_settings(written(folder, text))
    return str(caught.value)


def test_a_minimal_file_is_filled_with_the_defaults(folder: Path) -> None:
    read = read_settings(written(folder, MINIMAL))
    assert read.campaign.out == folder / "results"
    assert read.plates[0].acquisitions == folder / "raw"
    assert read.plates[0].manifest is None
    assert (read.classify.stride_px, read.classify.batch) == (160, 32)
    assert (read.analysis.timepoint, read.classifier.device) == ("last", "auto")
    assert (read.workers.count, read.workers.scheduler) == ("auto", "")


def test_every_stated_value_is_read(folder: Path) -> None:
    text = MINIMAL + (
        'manifest = "map.csv"\ndose_unit = "nM"\n'
        f'[[plates]]\nname = "P2"\nacquisitions = "../{folder.name}/other"\nlayout = "map.csv"\n'
        '[classifier]\npath = "other"\ndevice = "cuda:1"\n'
        "[analysis]\ntimepoint = 3\ndraws = 500\n"
        '[workers]\ncount = 2\nscheduler = "tcp://10.0.0.1:8786"\n'
    )
    read = read_settings(written(folder, text))
    assert [plate.name for plate in read.plates] == ["P1", "P2"]
    assert read.plates[0].dose_unit == "nM"
    assert read.plates[1].acquisitions == folder / "other"
    assert read.classifier.folder == folder / "other"
    assert (read.analysis.timepoint, read.workers.count) == (3, 2)


def test_without_a_path_the_shipped_classifier_is_meant(folder: Path) -> None:
    shipped = read_settings(written(folder, MINIMAL)).classifier.folder
    assert shipped.parts[-2:] == ("models", "demonstration")


def test_an_unknown_key_is_named_with_its_line_and_nearest_neighbour(folder: Path) -> None:
    assert refusal(folder, MINIMAL + "\n[classify]\nstrid_px = 80\n") == (
        "screen.toml:10: unknown key 'classify.strid_px'. Did you mean 'stride_px'?"
    )
    assert refusal(folder, MINIMAL + "[clasify]\n") == (
        "screen.toml:8: unknown key 'clasify'. Did you mean 'classify'?"
    )
    assert refusal(folder, MINIMAL + "well = 3\n") == (
        "screen.toml:8: plate 'P1': unknown key 'plates.well'. "
        "Expected one of name, acquisitions, layout, manifest, dose_unit, sheet, compounds, format, acquisition, "
        "channel, "
        "fluorescence, stitch, in_place."
    )


def test_a_folder_that_does_not_exist_names_its_plate(folder: Path) -> None:
    assert refusal(folder, MINIMAL.replace('"raw"', '"rwa"')) == (
        f"screen.toml:6: plate 'P1': plates.acquisitions: folder {folder / 'rwa'} does not exist. "
        "Correct the path; it starts at this file's folder."
    )


def test_every_fault_is_reported_at_once_in_the_order_of_lines(folder: Path) -> None:
    text = (
        '[campaign]\nname = "a/b"\n'
        '[[plates]]\nname = "P1"\nacquisitions = "raw"\nlayout = "none.csv"\ndose_unit = "um"\n'
        '[[plates]]\nname = "p1"\nacquisitions = "nowhere"\n'
        '[classify]\nbatch = "32"\n'
    )
    lines = refusal(folder, text).splitlines()
    assert [line.split(":")[1] for line in lines] == ["2", "6", "7", "8", "9", "10", "12"]
    for line, words in zip(
        lines,
        [
            "'a/b' cannot be a file's name",
            "none.csv does not exist",
            "Did you mean uM?",
            "plate 'p1': 'plates.layout' is missing",
            "the name is taken by plate 1",
            "nowhere does not exist",
            "classify.batch: Input should be a valid integer, got '32'",
        ],
        strict=True,
    ):
        assert words in line


@pytest.mark.parametrize(
    "name",
    [
        *("", "../../x", "/etc/x", "A\\\\..\\\\x", "CON", "nul.txt", "com1", "P1.", "P1 ", ".hidden", "-rf"),
        *("P1_mip", "P1.results", "P1.zarr", "Plätte", "x" * 65, "a\\nb", "<b>"),
    ],
)
def test_names_that_are_not_safe_as_file_names_are_refused(folder: Path, name: str) -> None:
    message = refusal(folder, MINIMAL.replace('"P1"', f'"{name}"'))
    assert message.startswith("screen.toml:5: ")
    assert "cannot be a file's name" in message or "reserved name" in message


def test_plates_that_would_share_files_are_refused(folder: Path) -> None:
    second = '[[plates]]\nname = "{}"\nacquisitions = "{}"\nlayout = "map.csv"\n'
    assert "screen.toml:9: plate 'p1': the name is taken by plate 1" in refusal(
        folder, MINIMAL + second.format("p1", "other")
    )
    assert "the name is taken by the campaign" in refusal(folder, MINIMAL + second.format("demo", "other"))
    assert "screen.toml:10: plate 'P2': the same acquisitions as plate 1" in refusal(
        folder, MINIMAL + second.format("P2", "raw")
    )


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("[analysis]\ntimepoint = 'first'", "got 'first'"),
        ("[analysis]\ntimepoint = -1", "greater than or equal to 0, got -1"),
        ("[analysis]\nz_prime_min = nan", "finite number"),
        ("[workers]\ncount = 0", "greater than or equal to 1"),
        ("[workers]\ncount = true", "got True"),
        ("[workers]\nscheduler = 'localhost'", "workers.scheduler"),
        ("[classifier]\ndevice = 'gpu'", "classifier.device"),
        ("[classifier]\npath = 'nowhere'", "does not exist"),
        ("[classifier]\npath = '~nobody-of-this-name/x'", "names no user"),
        (f"[classifier]\npath = '{'x' * 5000}'", "does not exist"),
        ("[analysis]\nz_prime_min = 5", "less than or equal to 1"),
        ("[analysis.quality]\nchance = 0.7", "analysis.quality.chance: Input should be less than 0.5, got 0.7"),
        ("[analysis.quality]\nturned = 'PASS'", "Input should be 'FAIL' or 'REVIEW', got 'PASS'"),
        ("[analysis.quality]\nstrange_controls = -1", "greater than or equal to 0"),
    ],
)
def test_a_value_out_of_range_is_shown(folder: Path, line: str, words: str) -> None:
    message = refusal(folder, MINIMAL + line + "\n")
    assert message.startswith("screen.toml:9: ")
    assert words in message
    assert len(message.splitlines()) == 1


def test_limits_of_quality_that_contradict_each_other_are_refused(folder: Path) -> None:
    shares = "[analysis.quality]\nflagged_review = 0.5\nflagged_fail = 0.2\n"
    message = refusal(folder, MINIMAL + shares)
    assert message.startswith("screen.toml:8: analysis.quality: flagged_review is 0.5, above flagged_fail (0.2)")
    message = refusal(folder, MINIMAL + "[analysis]\nz_prime_min = 0.3\n[analysis.quality]\nfail_z_prime = 0.4\n")
    assert "analysis: quality.fail_z_prime is 0.4, above z_prime_min (0.3)" in message


def test_a_mistyped_limit_is_named_with_the_nearest(folder: Path) -> None:
    message = refusal(folder, MINIMAL + "[analysis.quality]\nstrange_control = 0.1\n")
    assert message.endswith("unknown key 'analysis.quality.strange_control'. Did you mean 'strange_controls'?")


def test_the_limits_of_quality_are_those_of_the_rules_where_nobody_sets_them(folder: Path) -> None:
    analysis = read_settings(written(folder, MINIMAL)).analysis
    limits = {name: getattr(analysis, name) for name in ("z_prime_min", "ssmd_min", "controls_min", "patches_min")}
    assert analysis.quality.rules(**limits) == (Rule(), FieldRule())
    text = MINIMAL + "[analysis.quality]\nchance = 0.001\nfocus = 8.0\nmedium = 0.01\n"
    rule, of_fields = read_settings(written(folder, text)).analysis.quality.rules(**limits)
    assert (rule.chance, rule.focus, of_fields.focus, of_fields.medium) == (0.001, 8.0, 8.0, 0.01)
    # every limit of the rules can be set, but which flags propose an exclusion
    settable = QualitySettings.model_fields.keys() | {"pass_z_prime", "pass_ssmd", "fewest_controls", "fewest_patches"}
    assert {one.name for kind in (Rule, FieldRule) for one in fields(kind)} - {"proposes"} == settable


def test_a_campaign_without_plates_says_how_to_write_them(folder: Path) -> None:
    assert refusal(folder, MINIMAL.replace("[[plates]]", "[plates]")) == (
        "screen.toml:4: no plate is described. Write [[plates]], with two brackets, above each."
    )
    assert refusal(folder, 'plates = []\n[campaign]\nname = "x"\n') == (
        "screen.toml:1: no plate is described. Write [[plates]], with two brackets, above each."
    )
    assert "'plates' is missing" in refusal(folder, '[campaign]\nname = "x"\n')


def test_the_results_folder_may_not_be_a_file(folder: Path) -> None:
    message = refusal(folder, MINIMAL.replace('"demo"', '"demo"\nout = "map.csv"'))
    assert message.startswith("screen.toml:3: ")
    assert "is a file" in message


def test_what_is_no_toml_names_the_line(folder: Path) -> None:
    assert "at line 2" in refusal(folder, "[campaign]\nname = demo\n")
    path = folder / "latin.toml"
    path.write_bytes("[campaign]\nname = 'µ'\n".encode("latin-1"))
    with pytest.raises(SettingsError, match="is not UTF-8 text"):
        read_settings(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"screen\.toml do not exist"):
        read_settings(tmp_path / "screen.toml")


def test_the_example_can_be_read_and_shows_every_key(tmp_path: Path) -> None:
    path = write_example(tmp_path / "screen.toml")
    (tmp_path / "P001").mkdir()
    (tmp_path / "P001.csv").write_text("well,compound\n")
    stated = read_settings(path)
    assert stated.classify == Settings.model_fields["classify"].default
    assert stated.analysis == Settings.model_fields["analysis"].default
    assert stated.workers == Settings.model_fields["workers"].default
    uncommented = tomllib.loads(re.sub(r"^# (\w+ = )", r"\1", EXAMPLE, flags=re.MULTILINE))
    assert uncommented.keys() == Settings.model_fields.keys()
    for name, part in Settings.model_fields.items():
        model = PlateSettings if name == "plates" else part.annotation
        assert isinstance(model, type)
        assert issubclass(model, BaseModel)
        section = uncommented[name][0] if name == "plates" else uncommented[name]
        assert section.keys() == model.model_fields.keys()
    assert uncommented["analysis"]["quality"].keys() == QualitySettings.model_fields.keys()


def test_the_example_never_overwrites_a_file(tmp_path: Path) -> None:
    path = tmp_path / "screen.toml"
    path.write_text("mine")
    with pytest.raises(SettingsError, match="exists already"):
        write_example(path)
    assert path.read_text() == "mine"


def test_reading_settings_loads_no_heavy_library(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from screening.settings import read_settings;"
        "read_settings(Path(sys.argv[1]));"
        "print(sorted({'torch', 'plotly', 'dask', 'zarr', 'pandas'} & sys.modules.keys()))"
    )
    path = written(folder, MINIMAL)
    run = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    place=st.integers(0, len(EXAMPLE)),
    length=st.integers(0, 40),
    insert=st.one_of(st.text(max_size=6), st.sampled_from(["[[plates]]\n", '"', "]", "=", "\n", "{a=1}", "nan"])),
)
def test_mutated_settings_are_read_or_refused(folder: Path, place: int, length: int, insert: str) -> None:
    text = EXAMPLE.replace("P001.csv", "map.csv").replace('"P001"', '"raw"')
    mutated = text[:place] + insert + text[place + length :]
    path = folder / "screen.toml"
    path.write_bytes(mutated.encode("utf-8", "surrogatepass"))
    try:
        read = read_settings(path)
    except SettingsError as error:
        message = str(error)
    else:
        message = ""
        assert read.campaign.name
    assert all(line.startswith("screen.toml") for line in message.splitlines())
