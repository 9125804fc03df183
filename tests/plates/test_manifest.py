"""The table by which a person places files, as programs save it."""

from pathlib import Path

import pytest

from plates.errors import AcquisitionError, MissingInputError
from plates.ingest.manifest import Source, read_manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("größe.TCF", "a, b.TCF", "c;d.TCF"):
        (tmp_path / name).touch()
    return tmp_path


def read(folder: Path, data: bytes) -> list[Source]:
    (folder / "m.csv").write_bytes(data)
    return read_manifest(folder / "m.csv", folder=folder)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_a_manifest_is_read_as_any_program_saves_it(folder: Path, encoding: str, separator: str, ending: str) -> None:
    lines = [
        ["Path", " well ", "field", "Timepoint", "note"],
        ["größe.TCF", "a1", "0", "", "x"],
        ['"a, b.TCF"', "A02", "1", "3", ""],
        ["", "", "", "", ""],
        ['"c;d.TCF"', "B1", " 2 ", " "],
    ]
    sources = read(folder, ending.join(separator.join(line) for line in lines).encode(encoding))
    assert [(source.path.name, source.well, source.field, source.timepoint) for source in sources] == [
        ("größe.TCF", "A01", 0, 0),
        ("a, b.TCF", "A02", 1, 3),
        ("c;d.TCF", "B01", 2, 0),
    ]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            "path,well,field\na.TCF,A1,0\ngröße.TCF,A1,0\n".encode("latin-1"),
            r"m\.csv, line 3: .*not UTF-8 .*'CSV UTF-8'",
        ),
        (b"\xff\xfep\x00a", r"m\.csv, line 1: .*not UTF-16 .*'CSV UTF-8'"),
        (
            b"path|well|field\n",
            r"column path, well, field is missing; .*'path\|well\|field'.*commas, semicolons or tabs",
        ),
        (b"", "column path, well, field is missing"),
        (b"path,well,field\na, b.TCF,A1,0\n", r"line 2: it has 4 cells, .* names 3 .*quotation marks"),
        (
            b"path;well;field;voxel_z_um;voxel_y_um;voxel_x_um\nc;A1;0;0,95;0,16;0,16\n".replace(
                b"\nc", b'\n"c;d.TCF"'
            ),
            r"line 2: .*'0,95'.*decimal point",
        ),
        (b'path,well,field\n"' + b"a" * 200_000 + b'",A1,0\n', "line .*cannot be split into cells"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_remedy(folder: Path, data: bytes, message: str) -> None:
    with pytest.raises(AcquisitionError, match=message):
        read(folder, data)


def test_no_manifest_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="no such manifest"):
        read_manifest(tmp_path / "none.csv", folder=tmp_path)
