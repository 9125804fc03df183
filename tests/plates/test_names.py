"""From file names to places on the plate."""

from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plates.errors import AcquisitionError, MissingInputError
from plates.ingest.names import discover, parse_name
from plates.simulation.acquisition import acquisition_name


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def placed(folder: Path, manifest: Path | None = None) -> list[tuple[str, int, int]]:
    return [(source.well, source.field, source.timepoint) for source in discover(folder, manifest=manifest)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("230510.174730.HeLa_Hoechst.001.Group1.A2.T001P02.TCF", ("HeLa_Hoechst", 1, "Group1", "A02", 2)),
        ("230512.160429.CD95_TNF_Ctr.003.CD95.A1.T001P15.TCF", ("CD95_TNF_Ctr", 3, "CD95", "A01", 15)),
        (
            "251006.162843.myosin 24well plate.005.Group8.C5.T001P02.TCF",
            ("myosin 24well plate", 5, "Group8", "C05", 2),
        ),
        ("240808.200653.death_B4C4B5.005.Group1.B4.T001P01.tcf", ("death_B4C4B5", 5, "Group1", "B04", 1)),
        ("240808.200653.v1.2 dose 0.5.005.Group1.AF48.S003.Tcf", ("v1.2 dose 0.5", 5, "Group1", "AF48", 3)),
    ],
)
def test_names_of_real_acquisitions_are_read(name: str, expected: tuple[str, int, str, str, int]) -> None:
    read = parse_name(Path("somewhere") / name)
    assert (read.experiment, read.number, read.group, read.well, read.position) == expected
    assert read.recorded.strftime("%y%m%d.%H%M%S") == name[:13]


@given(
    recorded=st.datetimes(datetime(2001, 1, 1), datetime(2068, 12, 31)).map(lambda t: t.replace(microsecond=0)),
    experiment=st.text("abcXYZ019 ._-()", min_size=1),
    number=st.integers(0, 5000),
    group=st.text("abcXYZ019 _-()"),
    row=st.sampled_from(["A", "H", "AF"]),
    column=st.integers(1, 48),
    suffix=st.sampled_from(["S001", "T012P034", "TP07"]),
)
def test_every_name_we_write_is_read_back(
    recorded: datetime, experiment: str, number: int, group: str, row: str, column: int, suffix: str
) -> None:
    well = f"{row}{column:02d}"
    name = acquisition_name(recorded, experiment=experiment, number=number, group=group, well=well, suffix=suffix)
    read = parse_name(Path(name))
    assert (read.recorded, read.experiment, read.number, read.group, read.well) == (
        recorded,
        experiment,
        number,
        group,
        well,
    )


@pytest.mark.parametrize(
    "name",
    [
        "230510.HeLa_CD95 (28).TCF",
        "230510.174730.HeLa.001.Group1.A0.T001P02.TCF",
        "231310.174730.HeLa.001.Group1.A1.T001P02.TCF",
        "230510.174730.HeLa.001.Group1.A1.X001.TCF",
    ],
)
def test_a_name_without_a_well_says_what_to_do(name: str) -> None:
    with pytest.raises(AcquisitionError, match=r"rename it, or list it in a manifest"):
        parse_name(Path(name))


def test_positions_become_fields_and_debris_is_ignored(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "p/e/a/230510.174730.e.001.g.A2.T001P02.TCF",
        "p/e/b/230510.174731.e.002.g.A2.T001P11.tcf",
        "p/e/c/230510.174732.e.003.g.A10.T001P01.TCF",
        "p/e/c/230510.174733.e.003.g.B1.T001P15.TCF",
        "p/e/c/._230510.174732.e.003.g.A10.T001P01.TCF",
        "p/e/c/.DS_Store",
        "p/e/c/230510.174739.e.003.g.A11.T001P01.TCF.partial",
        "p/e/c/config.dat",
    )
    assert placed(tmp_path) == [("A02", 0, 0), ("A02", 1, 0), ("A10", 0, 0), ("B01", 0, 0)]


def test_single_frame_files_become_timepoints_and_a_missing_one_leaves_a_gap(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "230510.100000.e.001.g.A1.TP01.TCF",
        "230510.110000.e.002.g.A1.TP02.TCF",
        "230510.120000.e.003.g.A1.TP10.TCF",
        "230510.100100.e.001.g.A2.TP01.TCF",
        "230510.120100.e.003.g.A2.TP10.TCF",
    )
    assert placed(tmp_path) == [("A01", 0, 0), ("A01", 0, 1), ("A01", 0, 2), ("A02", 0, 0), ("A02", 0, 2)]


def test_single_frames_out_of_order_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "230510.110000.e.001.g.A1.TP01.TCF", "230510.100000.e.002.g.A1.TP02.TCF")
    with pytest.raises(AcquisitionError, match=r"TP02.TCF was recorded before .*TP01.TCF"):
        discover(tmp_path)


def test_two_files_for_one_place_are_both_named(tmp_path: Path) -> None:
    touch(tmp_path, "230510.174730.e.001.g.A2.T001P02.TCF", "copy/230511.174730.e.001.g.A2.T001P02.TCF")
    with pytest.raises(AcquisitionError, match=r"230510\.174730.* and .*230511\.174730.* both well A02, field 0"):
        discover(tmp_path)


def test_two_kinds_in_one_well_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "230510.174730.e.001.g.A2.T001P02.TCF", "230510.174730.e.001.g.A2.S001.TCF")
    with pytest.raises(AcquisitionError, match=r"well A02 has a (snapshot|time lapse) file"):
        discover(tmp_path)


def test_a_manifest_overrides_names(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "230510.HeLa_CD95 (28).TCF",
        "230510.174730.e.001.g.A2.T001P02.TCF",
        "230510.174731.e.001.g.A3.S001.TCF",
    )
    manifest = tmp_path / "manifest.csv"
    manifest.write_text(
        "\ufeffpath,well,field,timepoint\n230510.HeLa_CD95 (28).TCF,b7,1,\n"
        "230510.174730.e.001.g.A2.T001P02.TCF,B07,0,2\n",
        encoding="utf-8",
    )
    assert placed(tmp_path, manifest) == [("A03", 0, 0), ("B07", 0, 2), ("B07", 1, 0)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,well\nx.TCF,A1\n", "the column field is missing"),
        ("path,well,field\nnone.TCF,A1,0\n", r"line 2: 'none.TCF' is not a file"),
        ("path,well,field\nx.TCF,A1,one\n", "line 2: .*whole numbers from 0"),
        ("path,well,field\nx.TCF,A1,-1\n", "line 2: fields and timepoints count from 0"),
        ("path,well,field\nx.TCF,11,0\n", "line 2: '11' is not a well"),
        ("path,well,field\nx.TCF,A1,0\ny.TCF,A01,0\n", r"x\.TCF and .*y\.TCF are both well A01"),
    ],
)
def test_a_wrong_manifest_names_its_line(tmp_path: Path, text: str, message: str) -> None:
    touch(tmp_path, "x.TCF", "y.TCF")
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(AcquisitionError, match=message):
        discover(tmp_path, manifest=tmp_path / "m.csv")


def test_an_empty_or_missing_folder_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"no .TCF file"):
        discover(tmp_path)
    with pytest.raises(MissingInputError, match="no such folder"):
        discover(tmp_path / "none")
