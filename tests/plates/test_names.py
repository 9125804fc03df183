"""From file names to places on the plate."""

from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plates.errors import AcquisitionError, MissingInputError
from plates.ingest.acquisition_name import parse_export
from plates.ingest.names import discover, find_acquisitions, parse_name
from plates.simulation.acquisition import acquisition_name
from tests.plates.acquisitions import VOXEL_UM, tomogram, write_one
from tests.plates.tiffs import write_imagej, write_ome, write_pages, write_plate


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


@pytest.mark.parametrize(
    "ending",
    [".TCF", ".tcf", ".tif", ".TIFF", ".ome.tif", ".OME.TIFF", "_HT3D_0.00.TIFF", "_RI Tomogram.tiff", ".ome.zarr"],
)
def test_a_name_says_the_same_before_every_ending(ending: str) -> None:
    read = parse_name(Path("251003.112316.6 Well Mito.018.Group1.A1.TP03" + ending))
    assert (read.experiment, read.well, read.kind, read.order) == ("6 Well Mito", "A01", "single frames", 3)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # names of real exports, as bioio-tomocube's tests have them
        ("251003.112316.6 Well Mito.018.Group1.A1.TP01_HT3D_0.00.TIFF", ("tomogram", "")),
        ("251003.112316.6 Well Mito.018.Group1.A1.TP05_FL3D_CH1_0.00.TIFF", ("fluorescence", "CH1")),
        ("251003.112316.6 Well Mito.018.Group1.A1.TP05_FL2D_CH0_0.00.TIFF", ("projection", "CH0")),
        ("exp.001.A1.TP12_HT2D_1.50.TIFF", ("projection", "")),
        # and of HT-2H
        ("20220603.211532.508.CD8_3-046_RI Tomogram.tiff", ("tomogram", "")),
        ("20220422.194719.911.CD4_2-004_RI MIP.tiff", ("projection", "")),
        ("20220422.183553.770.monocyte_2-040_Brightfield.tiff", ("projection", "")),
    ],
)
def test_an_exported_tiff_says_what_it_holds(name: str, expected: tuple[str, str]) -> None:
    export = parse_export(Path(name))
    assert export is not None
    assert (export.content, export.channel) == expected
    assert parse_export(Path("x_FL3D_CH0.TIFF")) is None
    assert parse_export(Path(name).with_suffix(".TCF")) is None


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


def time_lapses(positions: dict[str, str]) -> list[str]:
    """File names of a plate; {"A1": "1 2"} = its positions 1 and 2."""
    return [
        f"230510.1747{number:02d}.e.001.g.{well}.T001P{int(position):02d}.TCF"
        for well, numbers in positions.items()
        for number, position in enumerate(numbers.split())
    ]


@pytest.mark.parametrize(
    ("positions", "fields"),
    [
        # counted in each well: what is missing in one well is no reason to count on
        ({"A1": "1 2 3 4", "A2": "2 3 4", "A3": "1 4"}, {"A01": [0, 1, 2, 3], "A02": [1, 2, 3], "A03": [0, 3]}),
        ({"A1": "5 6", "A2": "6"}, {"A01": [0, 1], "A02": [1]}),
        ({"A1": "1", "A2": "1"}, {"A01": [0], "A02": [0]}),
        # counted through the plate
        ({"A1": "1", "A2": "2", "A3": "3"}, {"A01": [0], "A02": [0], "A03": [0]}),
        ({"A1": "1 2 3 4", "A2": "5 6"}, {"A01": [0, 1, 2, 3], "A02": [0, 1]}),
        # counted through each half of the plate
        ({"A1": "1 2", "A2": "3 4", "B1": "1 2", "B2": "3 4"}, {well: [0, 1] for well in ("A01", "A02", "B01", "B02")}),
    ],
)
def test_positions_are_counted_in_the_well_or_through_the_plate(
    tmp_path: Path, positions: dict[str, str], fields: dict[str, list[int]]
) -> None:
    touch(tmp_path, *time_lapses(positions))
    found: dict[str, list[int]] = {}
    for source in discover(tmp_path):
        found.setdefault(source.well, []).append(source.field)
    assert found == fields


def test_a_position_that_comes_later_moves_no_other(tmp_path: Path) -> None:
    names = time_lapses({f"A{column}": "1 2 3 4" for column in (1, 2, 3)})
    late = {name for name in names if "A2.T001P01" in name or "A3.T001P03" in name}
    touch(tmp_path, *(name for name in names if name not in late))
    before = {source.path: source.field for source in discover(tmp_path)}
    touch(tmp_path, *late)
    after = {source.path: source.field for source in discover(tmp_path)}
    assert before.items() <= after.items()
    assert sorted(after.values()) == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]


def test_links_to_files_and_folders_are_followed_once_and_loops_end(tmp_path: Path) -> None:
    kept = touch(tmp_path / "archive", *time_lapses({"A1": "1", "A2": "1", "A3": "1"}))
    files = sorted(kept.iterdir())
    folder = tmp_path / "plate"
    (folder / "acquisition").mkdir(parents=True)
    (kept / "one").mkdir()
    files[0].rename(kept / "one" / files[0].name)
    (folder / "one").symlink_to(kept / "one")
    (folder / "one again").symlink_to(kept / "one")
    (folder / "round").symlink_to(folder)
    (kept / "one" / "back").symlink_to(folder)
    (folder / files[1].name).symlink_to(files[1])
    (folder / "acquisition" / files[1].name).symlink_to(files[1])
    (folder / files[2].name).symlink_to(files[2])
    files[2].unlink()
    found = find_acquisitions(folder)
    assert [source.well for source in found.sources] == ["A01", "A02"]
    assert found.problems == ()
    assert found.left_out == ((folder / files[2].name, "a link to a file that is not there"),)


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


def test_formats_may_be_mixed_in_one_folder(tmp_path: Path) -> None:
    touch(tmp_path, "260314.100000.e.001.g.C1.T001P01.TCF", "260314.100000.e.001.g.C1.T001P02.ome.tif")
    touch(tmp_path, "260314.100000.e.001.g.C3.S001_HT3D_0.00.TIFF")
    inside = write_plate(tmp_path / "other microscope.ome.tif")
    named = {("C01", 0), ("C01", 1), ("C03", 0)}
    assert {(source.well, source.field) for source in discover(tmp_path)} == named | set(inside)


def test_one_acquisition_in_two_formats_is_asked_about(tmp_path: Path) -> None:
    touch(tmp_path, "260314.100000.e.001.g.A1.T001P01.TCF", "260314.100000.e.001.g.A1.T001P01_HT3D_0.00.TIFF")
    with pytest.raises(
        AcquisitionError,
        match=r"both well A01.*two formats: remove one, or choose one by --format tcf \(or `format` in screen",
    ):
        discover(tmp_path)
    chosen = discover(tmp_path, file_format="tiff")
    assert [source.path.suffix for source in chosen] == [".TIFF"]


def test_what_is_no_tomogram_is_left_out_with_the_reason(tmp_path: Path) -> None:
    name = "260314.100000.e.001.g.A1.T001P01"
    write_one(tmp_path / f"{name}.TCF", [tomogram(1)])
    touch(tmp_path, f"{name}_HT2D_0.00.TIFF", "x_RI MIP.tiff", "thumbnail/1.tif", "notes.txt")
    touch(tmp_path, "260314.100000.e.001.g.A2.T001P01_FL3D_CH0_0.00.TIFF")
    write_pages(tmp_path / "figure.tif", [tomogram(1)[0]])
    found = find_acquisitions(tmp_path)
    assert found.problems == ()
    assert len(found.sources) == 1
    reasons = {path.name: reason for path, reason in found.left_out}
    assert reasons.pop("figure.tif").startswith("it has a single slice")
    assert reasons == {
        f"{name}_HT2D_0.00.TIFF": "a projection or picture (HT2D), no tomogram",
        "x_RI MIP.tiff": "a projection or picture (RI MIP), no tomogram",
        "1.tif": "a side file of the acquisition software",
        "260314.100000.e.001.g.A2.T001P01_FL3D_CH0_0.00.TIFF": "fluorescence without the tomogram of the same "
        "acquisition (_HT3D_)",
    }


def test_fluorescence_exported_with_its_tomogram_is_no_file_of_its_own(tmp_path: Path) -> None:
    name = "260314.100000.e.001.g.A1.TP01"
    write_imagej(tmp_path / f"{name}_HT3D_0.00.TIFF", tomogram(1))
    write_imagej(tmp_path / name / f"{name}_FL3D_CH0_0.00.TIFF", tomogram(2))
    found = find_acquisitions(tmp_path)
    assert [source.path.name for source in found.sources] == [f"{name}_HT3D_0.00.TIFF"]
    assert found.left_out == ()


def test_fluorescence_of_a_tomogram_that_a_manifest_places_is_not_left_out(tmp_path: Path) -> None:
    write_imagej(tmp_path / "cell 7_HT3D_0.00.TIFF", tomogram(1))
    write_imagej(tmp_path / "cell 7_FL3D_CH0_0.00.TIFF", tomogram(2))
    (tmp_path / "m.csv").write_text("path,well,field\ncell 7_HT3D_0.00.TIFF,A1,0\n")
    assert find_acquisitions(tmp_path, manifest=tmp_path / "m.csv").left_out == ()


def test_a_tomogram_without_a_well_is_a_problem_not_left_out(tmp_path: Path) -> None:
    write_ome(tmp_path / "cell 7.ome.tif", tomogram(1))
    with pytest.raises(AcquisitionError, match=r"cell 7\.ome\.tif: the name does not say which well"):
        discover(tmp_path)


def test_our_own_plates_and_what_is_inside_any_plate_are_left_out(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "260314.100000.e.001.g.A1.T001P01.TCF",
        "out/P1.zarr/A/1/260314.100000.e.001.g.A2.T001P01.TCF",
        "out/P1.results.zarr/260314.100000.e.001.g.A3.T001P01.TCF",
        "out/P1_mip.zarr/zarr.json",
        "image/c/260314.100000.e.001.g.A4.T001P01.TCF",
    )
    (tmp_path / "out/P1.zarr/zarr.json").write_text('{"attributes": {"ome": {"plate": {}}, "tomoscreen": {}}}')
    (tmp_path / "image/.zattrs").write_text('{"multiscales": []}')
    found = find_acquisitions(tmp_path)
    assert [source.well for source in found.sources] == ["A01"]
    assert found.problems == ()
    assert {path.name for path, _ in found.left_out} == {"P1.zarr", "P1.results.zarr", "P1_mip.zarr", "image"}


def test_all_bad_names_are_told_at_once_up_to_twenty(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{number:02d}.TCF" for number in range(23)))
    with pytest.raises(AcquisitionError) as error:
        discover(tmp_path)
    lines = str(error.value).splitlines()
    assert len(lines) == 21
    assert "19.TCF" in lines[19]
    assert lines[20] == "and 3 more such files."
    assert len(find_acquisitions(tmp_path).problems) == 23


def test_a_manifest_gives_parts_and_voxel_sizes(tmp_path: Path) -> None:
    write_plate(tmp_path / "plate.ome.tif")
    write_pages(tmp_path / "plain.tif", tomogram(1))
    (tmp_path / "m.csv").write_text(
        "path,part,well,field,voxel_z_um,voxel_y_um,voxel_x_um\n"
        "plate.ome.tif,Image:2,C3,0,,,\nplate.ome.tif,Image:0,C3,1,,,\nplain.tif,,C4,0,0.95,0.16,0.16\n"
    )
    sources = discover(tmp_path, manifest=tmp_path / "m.csv")
    assert [(source.well, source.field, source.part, source.voxel_um) for source in sources] == [
        ("C03", 0, "Image:2", None),
        ("C03", 1, "Image:0", None),
        ("C04", 0, "", VOXEL_UM),
    ]
    (tmp_path / "m.csv").write_text("path,well,field,voxel_z_um\nplain.tif,C4,0,0.95\n")
    with pytest.raises(AcquisitionError, match=r"line 2: .* all three voxel sizes in um or none"):
        discover(tmp_path, manifest=tmp_path / "m.csv")


def test_an_empty_or_missing_folder_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"no .TCF file"):
        discover(tmp_path)
    with pytest.raises(MissingInputError, match="no such folder"):
        discover(tmp_path / "none")
