"""What is told of a folder before anything is converted."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from plates.errors import AcquisitionError, MissingInputError
from plates.ingest.convert import ingest
from plates.ingest.inspection import Gap, inspect
from plates.layout import PlateMap
from tests.plates.acquisitions import SHAPE, VOXEL_UM, tomogram, write_folder, write_one
from tests.plates.foreign_plates import write_with
from tests.plates.tiffs import write_imagej, write_ome, write_pages, write_plate

NAME = "260314.092653.e.009.g.{}.T001P0{}{}"


def plate_map(*wells: str) -> PlateMap:
    return PlateMap(table=pd.DataFrame({"well": wells}), rows=2, columns=3, source="map.csv", sha256="")


def test_a_complete_folder_is_understood(tmp_path: Path) -> None:
    truth = write_folder(tmp_path, wells=("A01", "A02", "B01"), fields=2, timepoints=2)
    found = inspect(tmp_path)
    assert {(file.well, file.field, t) for file in found.files for t in file.timepoints} == set(truth)
    assert found.fields == {"A01": 2, "A02": 2, "B01": 2}
    assert (found.rows, found.columns, found.timepoints) == (2, 3, 2)
    assert found.geometries == {"6 x 70 x 64 voxels of 0.95 x 0.16 x 0.16 um (z, y, x)": 6}
    assert (found.gaps, found.warnings, found.blockers, found.left_out) == ((), (), (), ())
    assert found.total_bytes == sum(path.stat().st_size for path in tmp_path.rglob("*.TCF"))
    assert all(file.shape_zyx == SHAPE and file.voxel_um == VOXEL_UM for file in found.files)
    assert found.ingestible


def test_every_format_is_named_with_how_it_is_stored(tmp_path: Path) -> None:
    write_one(tmp_path / NAME.format("A1", 1, ".TCF"), [tomogram(1)])
    write_ome(tmp_path / NAME.format("A2", 1, ".ome.tif"), (tomogram(1) / 1e4).astype(np.float32))
    write_imagej(tmp_path / NAME.format("A3", 1, "_HT3D_0.00.TIFF"), tomogram(1))
    write_imagej(tmp_path / NAME.format("A3", 1, "_FL3D_CH1_0.00.TIFF"), tomogram(1))
    found = inspect(tmp_path)
    assert [(file.file_format, file.channels) for file in found.files] == [
        ("TCF", ()),
        ("OME-TIFF", ()),
        ("ImageJ TIFF", ("CH1",)),
    ]
    assert [file.stored for file in found.files[1:]] == ["float32", "uint16"]
    assert any("differ in their fluorescence channels" in warning for warning in found.warnings)


def test_gaps_are_told_by_field_and_timepoint(tmp_path: Path) -> None:
    write_folder(tmp_path, wells=("A01", "A02"), fields=2, timepoints=2)
    next(tmp_path.rglob("*.A2.T001P02.TCF")).unlink()
    write_one(next(tmp_path.rglob("*.A1.T001P01.TCF")), [tomogram(1)])
    found = inspect(tmp_path)
    assert found.gaps == (Gap("A01", 0, (1,)), Gap("A02", 1, (0, 1)))
    assert "3 tomograms are missing" in found.warnings[-1]
    assert found.ingestible


def test_unreadable_files_are_warnings_until_none_is_left(tmp_path: Path) -> None:
    write_folder(tmp_path, wells=("A01",), fields=2, timepoints=1)
    files = sorted(tmp_path.rglob("*.TCF"))
    files[0].write_bytes(files[0].read_bytes()[:1000])
    found = inspect(tmp_path)
    assert found.ingestible
    assert found.files[0].shape_zyx is None
    assert "not a complete TCF" in found.files[0].problem
    assert found.files[0].problem in found.warnings
    files[1].write_bytes(b"")
    found = inspect(tmp_path)
    assert not found.ingestible
    assert found.blockers[0].startswith("none of 2 files can be read")


def test_whatever_ingest_refuses_is_told_before_and_all_of_it(tmp_path: Path) -> None:
    source = tmp_path / "in"
    write_folder(source, wells=("A01", "A02"), fields=1, timepoints=1)
    write_one(source / NAME.format("A3", 1, ".TCF"), [tomogram(1, shape=(6, 70, 60))])
    write_one(source / NAME.format("A3", 2, ".TCF"), [tomogram(1)])
    write_imagej(source / NAME.format("A3", 2, ".tif"), tomogram(1))
    write_one(source / "nameless.TCF", [tomogram(1)])
    layout = plate_map("A01", "A02", "B03")
    found = inspect(source, plate_map=layout)
    told = "\n".join(found.blockers)
    for reason in (
        "both well A03, field 1",
        "nameless.TCF: the name does not say",
        "do not share one geometry",
        "Imaged, but not in map.csv: A03",
        "not imaged: B03",
    ):
        assert reason in told
    assert {path for path, _ in found.unplaced} == {NAME.format("A3", 2, ".tif"), "nameless.TCF"}
    with pytest.raises(AcquisitionError) as refused:
        ingest(source, out=tmp_path / "P.zarr")
    for line in str(refused.value).splitlines():
        assert line in found.blockers


def test_images_of_one_file_are_told_one_by_one_and_its_size_once(tmp_path: Path) -> None:
    truth = write_plate(tmp_path / "plate.ome.tif")
    found = inspect(tmp_path)
    assert {(file.well, file.field) for file in found.files} == set(truth)
    assert {file.part for file in found.files} == {"Image:0", "Image:1", "Image:2"}
    assert found.total_bytes == (tmp_path / "plate.ome.tif").stat().st_size


def test_a_voxel_size_of_the_manifest_reaches_the_reader(tmp_path: Path) -> None:
    write_pages(tmp_path / "x.tif", tomogram(1))
    (tmp_path / "m.csv").write_text("path,well,field,voxel_z_um,voxel_y_um,voxel_x_um\nx.tif,A1,0,0.95,0.16,0.16\n")
    found = inspect(tmp_path, manifest=tmp_path / "m.csv")
    assert found.files[0].voxel_um == VOXEL_UM
    assert found.ingestible


def test_the_json_says_everything_in_plain_types(tmp_path: Path) -> None:
    write_folder(tmp_path, wells=("A01", "A02"), fields=1, timepoints=2)
    (tmp_path / "x_RI MIP.tiff").write_bytes(b"")
    (tmp_path / NAME.format("A2", 2, ".TCF")).write_bytes(b"")
    document = json.loads(inspect(tmp_path).to_json())
    assert document["schema"] == 1
    assert document["ingestible"] is True
    assert document["files"][0]["recorded"] == "2026-03-14T09:26:53"
    assert document["files"][0]["timepoints"] == [0, 1]
    assert document["files"][2]["voxel_um"] is None
    assert document["fields"] == {"A01": 1, "A02": 2}
    assert document["left_out"] == [
        {"path": "x_RI MIP.tiff", "reason": "a projection or picture (RI MIP), no tomogram"}
    ]
    assert set(document) == {
        *("schema", "ingestible", "folder", "files", "rows", "columns", "fields", "timepoints", "gaps", "geometries"),
        *("blockers", "warnings", "unplaced", "left_out", "total_bytes", "seconds"),
    }


@pytest.mark.filterwarnings("ignore:Call to deprecated class Scaler")  # within ome-zarr-py
def test_a_run_and_a_channel_of_a_plate_are_chosen_as_for_ingest(tmp_path: Path) -> None:
    plate = tmp_path / "theirs.zarr"
    write_with("ome-zarr-py 0.4", plate, {"A/1/0": tomogram(1), "A/1/1": tomogram(2)}, voxel_um=VOXEL_UM)
    attributes = json.loads((plate / "A/1/.zattrs").read_text())
    for run, image in enumerate(attributes["well"]["images"]):
        image["acquisition"] = run
    (plate / "A/1/.zattrs").write_text(json.dumps(attributes))
    refused = inspect(plate)
    assert any("Choose one" in reason for reason in refused.blockers)
    found = inspect(plate, acquisition=1, channel="0")
    assert [(file.part, file.field, file.problem) for file in found.files] == [("A/1/1", 0, "")]
    assert not inspect(plate, acquisition=1, channel="nothing").ingestible


def test_an_empty_folder_is_understood_as_such_and_none_is_an_error(tmp_path: Path) -> None:
    found = inspect(tmp_path)
    assert not found.ingestible
    assert "no acquisition in the folder" in found.blockers[0]
    with pytest.raises(MissingInputError):
        inspect(tmp_path / "none")
