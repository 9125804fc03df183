"""Names that try to leave a folder, or that some disks take for others (rows 23 and 25 of the faults)."""

import os
from pathlib import Path

import pytest

from plates.errors import AcquisitionError, PlateMapError, SettingsError
from plates.ingest.manifest import read_manifest
from plates.ingest.zarr_files import inside
from plates.names import LONGEST, file_name, file_names, why_not_a_name
from screening.settings import read_settings
from tests.plates.plate_maps import plate_map

HOSTILE = (
    "../../x",
    "/etc/x",
    "A\\..\\x",
    "C:\\x",
    "CON",
    "con.txt",
    "nul",
    "x.",
    "x ",
    " x",
    "..",
    ".",
    "",
    "a\0b",
    "x" * 300,
    "\u202etxt.exe",
    "a\nb",
    "a\u2028b",
    "<script>alert(1)</script>",
    "x" * 10_000,
    "\U0001f480" * 70,
)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_becomes_one_plain_file_inside_its_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    file = folder / f"{file_name(name)}.html"
    file.write_text("x")
    assert [*tmp_path.rglob("*.html")] == [file]
    assert len(file.name) <= LONGEST + 6
    assert file.name.isascii()
    assert file.resolve().parent == folder.resolve()
    assert why_not_a_name(file_name(name)) == ""


def test_without_the_rule_the_same_names_leave_the_folder(tmp_path: Path) -> None:
    # off-check: what a name does when it is used as it is
    escaped = [name for name in HOSTILE if Path(os.path.normpath(tmp_path / "out" / name)).parent != tmp_path / "out"]
    assert {"../../x", "/etc/x", ".."} <= set(escaped)
    with pytest.raises(OSError, match="too long"):
        (tmp_path / ("x" * 300)).write_text("x")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_refused_where_a_name_must_be_one(name: str) -> None:
    assert why_not_a_name(name)


@pytest.mark.parametrize("name", ["P001", "plate 7", "Kühlschrank", "a.b-c_d"])
def test_usual_names_are_left_alone(name: str) -> None:
    assert why_not_a_name(name) == ""


def test_names_that_a_disk_takes_for_one_are_numbered() -> None:
    names = ["a01", "A01", "A 01", "A_01", "../A01", "A01_2", "", "\u202e"]
    given = file_names(names)
    assert len({name.casefold() for name in given}) == len(names)
    # off-check: alone, they would overwrite each other
    assert len({file_name(name).casefold() for name in names}) < len(names)
    pages = file_names(["../../x", "/etc/x", "x", "X", "CON", "\0", "y" * 300])
    assert len({page.casefold() for page in pages}) == 7
    assert all("/" not in page and "\\" not in page and "\0" not in page for page in pages)


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "A\\..\\x", "CON", "x.", "x ", "x" * 300, "a\u202eb", "", "nul"])
def test_settings_refuse_a_plate_that_would_write_elsewhere(tmp_path: Path, name: str) -> None:
    (tmp_path / "P001").mkdir()
    (tmp_path / "P001.csv").write_text("well,compound,dose (uM)\nA01,x,1\n")
    escaped = name.replace("\\", "\\\\").replace("\u202e", "\\u202e")
    settings = tmp_path / "screen.toml"
    settings.write_text(
        f'[campaign]\nname = "c"\nout = "out"\n\n[[plates]]\nname = "{escaped}"\nacquisitions = "P001"\n'
        'layout = "P001.csv"\n'
    )
    with pytest.raises(SettingsError, match=r"screen\.toml:6: "):
        read_settings(settings)
    settings.write_text(settings.read_text().replace(f'name = "{escaped}"', 'name = "P001"'))
    assert read_settings(settings).plates[0].name == "P001"  # off-check: it was the name


def test_plates_whose_names_differ_by_case_alone_are_refused(tmp_path: Path) -> None:
    (tmp_path / "P001").mkdir()
    (tmp_path / "P002").mkdir()
    (tmp_path / "m.csv").write_text("well,compound,dose (uM)\nA01,x,1\n")
    plate = '[[plates]]\nname = "{}"\nacquisitions = "{}"\nlayout = "m.csv"\n'
    settings = tmp_path / "screen.toml"
    settings.write_text(
        '[campaign]\nname = "c"\nout = "out"\n' + plate.format("a01", "P001") + plate.format("A01", "P002")
    )
    with pytest.raises(SettingsError, match="the name is taken by plate 1"):
        read_settings(settings)


@pytest.mark.parametrize("well", ["../../A01", "A01/..", "A\\..\\x", "CON", "A01\0", "\u202eA01", "A" * 300])
def test_a_well_is_a_well_or_refused(tmp_path: Path, well: str) -> None:
    with pytest.raises(PlateMapError):
        plate_map(tmp_path, f"well,compound,dose (uM)\n{well},x,1\n")
    manifest = tmp_path / "manifest.csv"
    (tmp_path / "a.TCF").write_bytes(b"")
    manifest.write_text(f"path,well,field,timepoint\na.TCF,{well},0,0\n")
    with pytest.raises(AcquisitionError, match=r"line 2|NUL"):
        read_manifest(manifest, folder=tmp_path)


def test_case_twins_of_a_well_are_one_well_described_twice(tmp_path: Path) -> None:
    with pytest.raises(PlateMapError, match=r"row 3.*A01.*2|row 2.*A01.*3|A01"):
        plate_map(tmp_path, "well,compound,dose (uM)\na01,x,1\nA01,y,2\n")


@pytest.mark.parametrize("name", ["../x", "/etc", "..", "a/../../x", "A\\..\\x", "C:x", "\u202ex", "a\0", ".hidden"])
def test_paths_in_the_metadata_of_a_plate_stay_inside_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(AcquisitionError, match=r"expected plain names|outside the plate|cannot be followed"):
        inside(tmp_path.resolve(), tmp_path, name)


@pytest.mark.parametrize(
    "compound",
    ["</script>", "<img src=x onerror=alert(1)>", "javascript:alert(1)", "<a href=//x>", "é" * 9, "\U0001f480"],
)
def test_a_compound_keeps_its_name_letter_by_letter(tmp_path: Path, compound: str) -> None:
    found = plate_map(tmp_path, f'well,compound,dose (uM)\nA01,"{compound}",1\n')
    assert compound in [str(name) for name in found.to_dataset()["compound"].values.ravel()]


@pytest.mark.parametrize("compound", ["a\u202eb", "a\u200bb", "a\0b"])
def test_a_compound_with_what_cannot_be_seen_is_refused_with_its_line(tmp_path: Path, compound: str) -> None:
    with pytest.raises(PlateMapError, match=r"line 2"):
        plate_map(tmp_path, f'well,compound,dose (uM)\nA01,"{compound}",1\n')
