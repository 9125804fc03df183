"""TIFF acquisitions: what others write comes back voxel by voxel, and what is broken is refused."""

import struct
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plates.errors import AcquisitionError
from plates.ingest.acquisition import open_acquisition, read_frame
from plates.ingest.ome_tiff import open_tiff, side_files, tiff_sources
from tests.plates.acquisitions import SHAPE, VOXEL_UM, tomogram
from tests.plates.tiffs import (
    ACQUISITION,
    image_xml,
    ome_xml,
    plate_xml,
    write_imagej,
    write_ome,
    write_pages,
    write_plate,
)

HL60 = Path(__file__).parents[1] / "data/hl60_tomogram/hl60_ri_x10000_140x140x140_0.139um.tif"


def counts(path: Path, *, frame: int = 0, part: str = "") -> np.ndarray:
    with open_acquisition(path, part=part) as acquisition:
        return read_frame(acquisition, frame)[0]


# What others write


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bigtiff": True},
        {"byteorder": ">"},
        {"tile": (48, 32)},
        {"rowsperstrip": 9},
        {"compression": "zlib"},
        {"compression": "zlib", "predictor": 2, "tile": (64, 64), "byteorder": ">"},
    ],
)
@pytest.mark.parametrize("kind", ["uint16", "index as float32", "counts as float64", "int32"])
def test_every_way_to_store_it_gives_the_same_voxels(tmp_path: Path, kind: str, options: dict[str, Any]) -> None:
    truth = tomogram(1)
    if "float" in kind and "predictor" in options:
        options = {**options, "predictor": 1}
    written = {
        "uint16": truth,
        "index as float32": (truth / 1e4).astype(np.float32),
        "counts as float64": truth.astype(np.float64),
        "int32": truth.astype(np.int32),
    }[kind]
    path = write_ome(tmp_path / "x.ome.tif", written, **options)
    with open_acquisition(path) as acquisition:
        assert acquisition.voxel_um == pytest.approx(VOXEL_UM)
        assert np.array_equal(read_frame(acquisition, 0)[0], truth)


@pytest.mark.parametrize("axes", ["TCZYX", "CTZYX", "TZCYX", "ZTCYX", "CZTYX", "ZCTYX"])
def test_axes_in_any_order(tmp_path: Path, axes: str) -> None:
    truth = np.stack([[tomogram(10 * t + c) for c in range(3)] for t in range(2)])  # (t, c, z, y, x)
    metadata = {
        "axes": axes,
        "Channel": {"Name": ["Hoechst", "RI", "PI"]},
        "TimeIncrement": 0.5,
        "TimeIncrementUnit": "h",
    }
    shuffled = np.transpose(truth, ["TCZYX".index(axis) for axis in axes])
    path = write_ome(tmp_path / "x.ome.tif", shuffled, metadata=metadata)
    with open_acquisition(path) as acquisition:
        assert acquisition.frames == (0, 1)
        assert acquisition.times_s == {0: 0, 1: 1800}
        assert list(acquisition.channels) == ["Hoechst", "PI"]
        for t in range(2):
            assert np.array_equal(read_frame(acquisition, t)[0], truth[t, 1])
            assert np.array_equal(acquisition.read_fluorescence("PI", frame=t), truth[t, 2])


@pytest.mark.parametrize("order", ["XYZCT", "XYCTZ", "XYTZC"])
def test_xml_as_bio_formats_writes_it(tmp_path: Path, order: str) -> None:
    volumes = [tomogram(number) for number in range(4)]  # by timepoint, then channel
    planes = [volumes[t * 2 + c][z] for t, c, z in _in_order(order)]
    plane = (
        '<Plane TheZ="0" TheC="0" TheT="{}" DeltaT="{}" DeltaTUnit="min" PositionX="1500.0" PositionXUnit="µm" '
        'PositionY="-2.0" PositionYUnit="mm" PositionZ="0" PositionZUnit="µm"/>'
    )
    image = image_xml(
        0,
        size_zct=(SHAPE[0], 2, 2),
        order=order,
        channels=("DAPI", "Refractive Index"),
        extra=plane.format(0, 2.0) + plane.format(1, 32.5),
    )
    path = write_pages(tmp_path / "renamed.ome.tif", planes, ome_xml(image))
    with open_acquisition(path) as acquisition:
        assert acquisition.voxel_um == pytest.approx(VOXEL_UM)
        assert acquisition.times_s == pytest.approx({0: 0, 1: 1830})
        assert acquisition.recorded == datetime(2026, 3, 14, 9, 28, 53)  # the first frame, two minutes on
        assert acquisition.position_mm == pytest.approx((1.5, -2, 0))
        assert acquisition.channels["DAPI"].emission_um == pytest.approx(0.46)
        for t in range(2):
            assert np.array_equal(read_frame(acquisition, t)[0], volumes[t * 2 + 1])
            assert np.array_equal(acquisition.read_fluorescence("DAPI", frame=t), volumes[t * 2])


def _in_order(order: str) -> list[tuple[int, int, int]]:
    """(t, c, z) in the order of the pages: the axis after XY runs fastest."""
    sizes = {"Z": SHAPE[0], "C": 2, "T": 2}
    axes = order[:1:-1]
    places = [dict(zip(axes, index, strict=True)) for index in np.ndindex(*(sizes[axis] for axis in axes))]
    return [(place["T"], place["C"], place["Z"]) for place in places]


def test_wells_of_a_plate_in_one_file(tmp_path: Path) -> None:
    truth = write_plate(tmp_path / "plate.ome.tif")
    sources = tiff_sources(tmp_path / "plate.ome.tif")
    assert {(source.well, source.field) for source in sources} == set(truth)
    for source in sources:
        assert np.array_equal(counts(source.path, part=source.part), truth[source.well, source.field])
    with pytest.raises(AcquisitionError, match=r"holds 3 images .*manifest"):
        counts(tmp_path / "plate.ome.tif")
    with pytest.raises(AcquisitionError, match=r"does not hold the pixels of Image:7"):
        counts(tmp_path / "plate.ome.tif", part="Image:7")


def test_a_file_gives_only_the_images_whose_pixels_it_holds(tmp_path: Path) -> None:
    here = image_xml(0, file=("urn:uuid:1", "a.ome.tif"))
    there = image_xml(1, file=("urn:uuid:2", "b.ome.tif"))
    path = write_pages(tmp_path / "a.ome.tif", tomogram(1), ome_xml(plate_xml((0, 0, [0]), (0, 1, [1])), here, there))
    assert [(source.well, source.part) for source in tiff_sources(path)] == [("A01", "Image:0")]
    with pytest.raises(AcquisitionError, match=r"they are in b\.ome\.tif"):
        counts(path, part="Image:1")


def test_an_imagej_stack_gives_its_unit_and_time(tmp_path: Path) -> None:
    path = write_imagej(
        tmp_path / "x.tif", np.stack([tomogram(1), tomogram(2)]), metadata={"axes": "TZYX", "finterval": 600}
    )
    with open_acquisition(path) as acquisition:
        assert acquisition.voxel_um == pytest.approx(VOXEL_UM, rel=1e-5)
        assert acquisition.recorded == datetime(2025, 10, 3, 12, 36, 59)
        assert acquisition.times_s == {0: 0, 1: 600}
        assert np.array_equal(read_frame(acquisition, 1)[0], tomogram(2))


def test_pages_of_an_export_are_counted_whatever_its_header_says(tmp_path: Path) -> None:
    # real exports say slices=12 of fluorescence that lies on the 70 slices of the tomogram (bioio-tomocube)
    tomogram_file = write_imagej(tmp_path / f"{ACQUISITION}_HT3D_0.00.TIFF", tomogram(1))
    stain = np.arange(np.prod(SHAPE), dtype=np.uint16).reshape(SHAPE)
    header = "ImageJ=1.53t\nimages=3\nslices=3\nunit=cm\nspacing=0.000104453123\n"
    write_pages(tmp_path / ACQUISITION / f"{ACQUISITION}_FL3D_CH0_0.00.TIFF", stain, header)
    write_pages(tmp_path / f"{ACQUISITION}_FL3D_CH1_0.00.TIFF", stain[:3], header)
    with open_acquisition(tomogram_file) as acquisition:
        assert acquisition.channels["CH0"].shape_zyx == SHAPE
        assert acquisition.channels["CH0"].voxel_um == acquisition.voxel_um
        assert acquisition.channels["CH1"].shape_zyx == (3, *SHAPE[1:])
        assert np.array_equal(acquisition.read_fluorescence("CH0", frame=0), stain)
        assert np.array_equal(read_frame(acquisition, 0)[0], tomogram(1))


def test_the_fluorescence_files_of_an_export_are_told_in_a_fixed_order(tmp_path: Path) -> None:
    other = ACQUISITION.replace("TP01", "TP02")
    names = [
        f"{ACQUISITION}_FL3D_CH10_0.00.TIFF",
        f"{ACQUISITION}_FL3D_CH1_0.00.TIFF",
        f"{ACQUISITION}/{ACQUISITION}_FL3D_CH0_0.00.TIFF",
    ]
    no_part = [f"{ACQUISITION}_FL3D_CH0_1.00.TIFF", f"{ACQUISITION}_FL2D_CH0_0.00.TIFF", f"{other}_FL3D_CH0_0.00.TIFF"]
    tomograms = [f"{ACQUISITION}_HT3D_0.00.TIFF", f"{ACQUISITION}.TCF", f"{ACQUISITION}.ome.tif"]
    (tmp_path / ACQUISITION).mkdir()
    for name in reversed([*names, *no_part, *tomograms]):
        (tmp_path / name).touch()
    # the files are empty: nothing was opened
    assert side_files(tmp_path / tomograms[0]) == [tmp_path / name for name in names]
    for other in (*tomograms[1:], *names, "gone/x_HT3D_0.00.TIFF"):
        assert side_files(tmp_path / other) == []


def test_every_file_that_is_read_as_fluorescence_is_a_side_file(tmp_path: Path) -> None:
    # names as people have them: brackets are no patterns
    stem = "251003.112316.[6] Well*.018.Group1.A1.TP01"
    path = write_imagej(tmp_path / f"{stem}_HT3D_0.00.TIFF", tomogram(1))
    files = [write_imagej(tmp_path / f"{stem}_FL3D_CH{channel}_0.00.TIFF", tomogram(2)) for channel in (0, 1)]
    with open_acquisition(path) as acquisition:
        assert list(acquisition.channels) == ["CH0", "CH1"]
    assert side_files(path) == files
    twice = write_imagej(tmp_path / stem / files[0].name, tomogram(2))
    with pytest.raises(AcquisitionError, match="are both CH0"):
        counts(path)
    assert side_files(path) == [*files, twice]


def test_an_imagej_stack_beyond_4_gb_has_tags_for_its_first_slice_only(tmp_path: Path) -> None:
    truth = tomogram(1)
    header = f"ImageJ=1.53t\nimages={SHAPE[0]}\nslices={SHAPE[0]}\nunit=um\nspacing=0.95\n".encode()
    path = tmp_path / "x.tif"
    tifffile.imwrite(
        path, truth[0], photometric="minisblack", description=header, resolution=(6.25, 6.25), metadata=None
    )
    with tifffile.TiffFile(path) as file:
        end = file.pages.first.dataoffsets[0] + truth[0].nbytes
    path.write_bytes(path.read_bytes()[:end] + truth[1:].tobytes())
    assert np.array_equal(counts(path), truth)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(AcquisitionError, match="announces 6 slices and holds 1"):
        counts(path)


def test_a_plain_stack_needs_a_voxel_size(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, tomogram(1), photometric="minisblack")
    with pytest.raises(AcquisitionError, match=r"does not give a voxel size .*voxel_z_um"):
        counts(path)
    with open_tiff(path, voxel_um=VOXEL_UM) as acquisition:
        assert acquisition.voxel_um == VOXEL_UM
        assert np.array_equal(read_frame(acquisition, 0)[0], tomogram(1))


def test_slabs_hold_a_part_of_the_tomogram_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plates.ingest.ome_tiff._SLAB_VOXELS", 2 * SHAPE[1] * SHAPE[2])
    path = write_ome(tmp_path / "x.ome.tif", tomogram(1))
    with open_acquisition(path) as acquisition:
        slabs = list(acquisition.slabs(0))
    assert [slab.z for slab in slabs] == [0, 2, 4]
    assert np.array_equal(np.concatenate([slab.counts for slab in slabs]), tomogram(1))


def test_the_measured_cell_is_read_voxel_by_voxel(tmp_path: Path) -> None:
    cell = tifffile.imread(HL60)
    voxel = (0.139, 0.139, 0.139)
    with open_tiff(HL60, voxel_um=voxel) as acquisition:
        assert np.array_equal(read_frame(acquisition, 0)[0], cell)
    sizes = {f"PhysicalSize{axis}": 0.139 for axis in "ZYX"} | {f"PhysicalSize{axis}Unit": "µm" for axis in "YX"}
    for options in ({}, {"compression": "zlib", "predictor": 2}, {"tile": (64, 64), "bigtiff": True}):
        path = write_ome(tmp_path / "x.ome.tif", cell, metadata=sizes, **options)
        with open_acquisition(path) as acquisition:
            assert acquisition.voxel_um == pytest.approx(voxel)
            assert np.array_equal(read_frame(acquisition, 0)[0], cell)
    path = write_ome(tmp_path / "x.ome.tif", (cell / 1e4).astype(np.float32), metadata=sizes)
    assert np.array_equal(counts(path), cell)


@pytest.mark.parametrize("compression", ["lzw", "zstd", "packbits"])
def test_other_codecs_are_read_where_imagecodecs_is_installed(tmp_path: Path, compression: str) -> None:
    pytest.importorskip("imagecodecs")
    path = write_ome(tmp_path / "x.ome.tif", tomogram(1), compression=compression)
    assert np.array_equal(counts(path), tomogram(1))


def test_without_imagecodecs_the_error_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    path = _with_tag(write_ome(tmp_path / "x.ome.tif", tomogram(1)), 259, 5)
    with pytest.raises(AcquisitionError, match=r"compressed with LZW, which needs the package imagecodecs"):
        counts(path)


# What is broken or no tomogram


def test_which_channel_is_the_tomogram_is_asked_not_guessed(tmp_path: Path) -> None:
    both = np.stack([tomogram(1), tomogram(2)])
    for names in (["Hoechst", "PI"], ["RI", "HT"]):
        path = write_ome(tmp_path / "x.ome.tif", both, metadata={"axes": "CZYX", "Channel": {"Name": names}})
        with pytest.raises(AcquisitionError, match=rf"which of its 2 channels .*'{names[0]}', '{names[1]}'"):
            counts(path)


@pytest.mark.parametrize("values", [np.uint16(300), np.float32(0.02), np.float32(250), np.uint16(40_000)])
def test_grey_levels_that_are_no_index_are_refused(tmp_path: Path, values: np.generic) -> None:
    path = write_ome(tmp_path / "x.ome.tif", np.full(SHAPE, values))
    with pytest.raises(AcquisitionError, match="no refractive index"):
        counts(path)


def test_8_bit_single_slice_and_colour_are_no_tomograms(tmp_path: Path) -> None:
    with pytest.raises(AcquisitionError, match="8-bit values"):
        counts(write_ome(tmp_path / "a.ome.tif", np.full(SHAPE, 200, dtype=np.uint8)))
    with pytest.raises(AcquisitionError, match="single slice: it is a projection"):
        counts(write_ome(tmp_path / "b.ome.tif", tomogram(1)[:1]))
    tifffile.imwrite(tmp_path / "c.tif", np.zeros((9, 9, 3), np.uint8), photometric="rgb")
    with pytest.raises(AcquisitionError, match="colour image"):
        counts(tmp_path / "c.tif")


def test_pages_of_another_shape_or_type_are_refused(tmp_path: Path) -> None:
    pages = list(tomogram(1))
    for odd in (pages[0][:-1], pages[0].astype(np.float32)):
        path = write_pages(tmp_path / "x.tif", [*pages[:3], odd, *pages[4:]])
        with pytest.raises(AcquisitionError, match=r"page 4 is .* where page 1 is 70 x 64 uint16"):
            counts(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('IFD="5"', 'IFD="6"', "places planes on pages 7 to 7 of 6"),
        ('IFD="5"', 'IFD="4"', "gives one page to two planes"),
        ('FirstZ="5"', 'FirstZ="4"', "places one plane on two pages"),
        ('SizeC="1" SizeT="1"', 'SizeC="1000" SizeT="100000"', "claims an image of X 64 x Y 70 x Z 6 x C 1000"),
        ('Type="uint16"', 'Type="float"', "pages are 70 x 64 uint16 where its OME-XML says 70 x 64 float32"),
        ('SizeX="64"', 'SizeX="65"', "where its OME-XML says 70 x 65 uint16"),
        ("XYZCT", "XZYCT", "dimension order is 'XZYCT'"),
        ("urn:uuid:1</UUID>", "urn:uuid:2</UUID>", "they are in plate.ome.tif"),
        ('PhysicalSizeZUnit="mm"', 'PhysicalSizeZUnit="pixel"', "does not give a voxel size"),
        ('PhysicalSizeX="160.0"', 'PhysicalSizeX="-160.0"', "does not give a voxel size"),
        ("</Pixels>", "", "OME-XML is damaged"),
        ('SizeZ="6"', 'SizeZ="six"', "missing or impossible value"),
    ],
)
def test_metadata_that_contradict_the_pages_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    whole = ome_xml(image_xml(0))
    assert old in whole
    path = write_pages(tmp_path / "x.ome.tif", tomogram(1), whole.replace(old, new))
    with pytest.raises(AcquisitionError, match=message):
        counts(path)


def test_a_page_that_no_metadata_mention_is_noticed(tmp_path: Path) -> None:
    path = write_pages(tmp_path / "x.ome.tif", [*tomogram(1), tomogram(1)[0]], ome_xml(image_xml(0)))
    with pytest.raises(AcquisitionError, match="says nothing of 1 of its 7 pages"):
        counts(path)


def test_a_tomogram_with_a_slice_missing_is_refused_and_a_missing_timepoint_is_a_gap(tmp_path: Path) -> None:
    image = image_xml(0, size_zct=(3, 1, 2))
    text = ome_xml(image)
    planes = text.split("<TiffData ")
    path = tmp_path / "x.ome.tif"
    write_pages(path, tomogram(1)[:5], "<TiffData ".join(planes[:-1]) + "</Pixels></Image></OME>")
    with pytest.raises(AcquisitionError, match="timepoint 1 has 2 of 3 slices"):
        counts(path)
    write_pages(path, tomogram(1)[:3], "<TiffData ".join(planes[:4]) + "</Pixels></Image></OME>")
    with open_acquisition(path) as acquisition:
        assert (acquisition.frames, acquisition.planned) == ((0,), 2)


def test_entities_in_the_metadata_are_not_expanded(tmp_path: Path) -> None:
    text = ome_xml(image_xml(0)).replace("?><OME", '?><!DOCTYPE x [<!ENTITY a "aaaa">]><OME')
    with pytest.raises(AcquisitionError, match="defines entities"):
        counts(write_pages(tmp_path / "x.ome.tif", tomogram(1), text))


@pytest.mark.parametrize(
    ("tag", "value", "message"),
    [
        (256, 100_000, "claims 100000 x 70 pixels"),
        (257, 0, "claims 64 x 0 pixels"),
        (257, 60_000, "lies beyond|values of type|stores"),
        (258, 12, "12 bits"),
        (259, 7, "method 7, which loses values"),
        (277, 3, "colour"),
    ],
)
def test_impossible_tags_are_refused_before_anything_is_read(
    tmp_path: Path, tag: int, value: int, message: str
) -> None:
    path = _with_tag(write_ome(tmp_path / "x.ome.tif", tomogram(1)), tag, value)
    with pytest.raises(AcquisitionError, match=message):
        counts(path)


def test_a_compressed_page_may_not_unfold_to_more_than_it_claims(tmp_path: Path) -> None:
    volume = np.full((2, 2000, 2000), 13370, np.uint16)
    path = write_ome(tmp_path / "x.ome.tif", volume, compression="zlib", rowsperstrip=2000)
    path.write_bytes(path.read_bytes().replace(b'SizeY="2000"', b'SizeY="0020"'))
    with pytest.raises(AcquisitionError, match="unfolds to more than it should"):
        counts(_with_tag(_with_tag(path, 257, 20), 278, 20))


def test_two_pages_with_the_same_bytes_are_refused(tmp_path: Path) -> None:
    path = write_ome(tmp_path / "x.ome.tif", tomogram(1))
    with tifffile.TiffFile(path) as file:
        first = file.pages.first.dataoffsets[0]
    with pytest.raises(AcquisitionError, match="two of its pages claim the same bytes"):
        counts(_with_tag(path, 273, first))


def test_a_chain_of_pages_in_a_circle_is_refused(tmp_path: Path) -> None:
    path = write_ome(tmp_path / "x.ome.tif", tomogram(1))
    data = bytearray(path.read_bytes())
    offset = struct.unpack_from("<I", data, 4)[0]
    last = offset + 2 + 12 * struct.unpack_from("<H", data, offset)[0]
    struct.pack_into("<I", data, last, offset)
    path.write_bytes(data)
    with pytest.raises(AcquisitionError, match="runs in a circle"):
        counts(path)


def test_pages_lost_from_a_plain_stack_are_noticed(tmp_path: Path) -> None:
    path = write_imagej(tmp_path / "x.tif", tomogram(1))
    data = bytearray(path.read_bytes())
    offset = struct.unpack_from("<I", data, 4)[0]
    for _ in range(2):
        last = offset + 2 + 12 * struct.unpack_from("<H", data, offset)[0]
        offset = struct.unpack_from("<I", data, last)[0]
    struct.pack_into("<I", data, last, 0)
    path.write_bytes(data)
    with pytest.raises(AcquisitionError, match="belong to none of its 2 pages"):
        counts(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 bytes. Is it still being copied"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "neither TCF .HDF5., TIFF nor OME-Zarr"),
        (b"well,compound\nA1,DMSO\n", "neither TCF"),
        (b"II*\0\0\0\0\0", "holds no page"),
        (b"II*", "neither TCF"),
    ],
)
def test_other_files_are_told_apart(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.tif").write_bytes(content)
    with pytest.raises(AcquisitionError, match=message):
        counts(tmp_path / "x.tif")


SMALL = tomogram(3, shape=(3, 12, 10))


def _small(kind: str, folder: Path) -> bytes:
    path = folder / f"{kind}.tif"
    if kind == "imagej":
        write_imagej(path, SMALL)
    else:
        options: dict[str, Any] = {"compression": "zlib"} if kind == "deflate" else {}
        write_ome(path, SMALL, **options)
    assert np.array_equal(counts(path), SMALL)
    return path.read_bytes()


@pytest.mark.parametrize("kind", ["ome", "imagej", "deflate"])
def test_a_file_cut_anywhere_gives_all_or_an_error(tmp_path: Path, kind: str) -> None:
    whole = _small(kind, tmp_path)
    path = tmp_path / "cut.tif"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        try:
            read = counts(path)
        except AcquisitionError:
            continue
        assert np.array_equal(read, SMALL)


@settings(max_examples=300, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_flipped_bits_give_a_tomogram_of_the_right_kind_or_an_error(tmp_path: Path, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["ome", "imagej", "deflate"]))
    damaged = bytearray(_small(kind, tmp_path))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path = tmp_path / "damaged.tif"
    path.write_bytes(damaged)
    try:
        with open_acquisition(path) as acquisition:
            read = read_frame(acquisition, acquisition.frames[0])[0]
    except AcquisitionError:
        return
    assert read.dtype == np.uint16
    assert read.shape == acquisition.shape_zyx
    assert read.size <= SMALL.size
    if kind == "deflate" and read.shape == SMALL.shape:
        # a checksum guards what was compressed
        assert np.array_equal(read, SMALL)


def _with_tag(path: Path, tag: int, value: int) -> Path:
    """Overwrite a tag of every page of a small file."""
    data = bytearray(path.read_bytes())
    offset = struct.unpack_from("<I", data, 4)[0]
    while offset:
        count = struct.unpack_from("<H", data, offset)[0]
        for entry in range(offset + 2, offset + 2 + 12 * count, 12):
            if struct.unpack_from("<H", data, entry)[0] == tag:
                struct.pack_into("<HII", data, entry + 2, 4, 1, value)
        offset = struct.unpack_from("<I", data, offset + 2 + 12 * count)[0]
    path.write_bytes(data)
    return path
