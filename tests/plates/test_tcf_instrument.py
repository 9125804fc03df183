"""What a file and those beside it say of the microscope; none of it can hurt the reading of tomograms."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from plates.ingest.acquisition import read_frame
from plates.ingest.instrument import Instrument
from plates.ingest.tcf import open_tcf

from .acquisitions import tomogram, write_one
from .tcf_files import Stored, write_file

RAW = "Info/MetaData/RawData"


def instrument(path: Path) -> Instrument:
    """Read it, and make sure that the tomogram is read as ever."""
    with open_tcf(path) as acquisition:
        np.testing.assert_array_equal(read_frame(acquisition, 0)[0], tomogram(0))
        return acquisition.instrument


def bare(path: Path) -> Path:
    """A file that says nothing of itself."""
    return write_file(path, {0: Stored(tomogram(0), tomogram(0))})


def embed(path: Path, name: str, data: Any) -> None:
    with h5py.File(path, "r+") as file:
        group = file.require_group(RAW)
        if name in group:
            del group[name]
        group.create_dataset(name, data=data)


def test_file_and_sidecars_are_gathered(tmp_path: Path) -> None:
    path = write_one(tmp_path / "a.TCF", [tomogram(0)], beside=True, well="B03", title="Tod v1.2", condenser_na=0.54)
    found = instrument(path)
    assert (found.objective_na, found.condenser_na, found.magnification) == (0.95, 0.54, 40)
    assert (found.wavelength_um, found.camera_pixel_um, found.medium_index) == (0.45, 5.48, 1.337)
    assert (found.model, found.serial, found.title, found.well) == ("HT-X1", "SIMULATED", "Tod v1.2", "B03")
    assert (found.vessel, found.vessel_rows, found.vessel_columns) == ("simulated plate", 8, 12)
    assert (found.medium, found.sample, found.experiment) == ("simulated medium", "Cell", "Tod v1.2")
    assert found.parent == "simulation/Tod v1.2"
    assert found.tiles == {"TilesY": "2", "TilesX": "2"}
    assert found.notes == ()


def test_what_is_known_is_ready_for_json(tmp_path: Path) -> None:
    known = instrument(write_one(tmp_path / "a.TCF", [tomogram(0)])).to_dict()
    assert json.loads(json.dumps(known, allow_nan=False)) == known
    assert known["objective_na"] == 0.95
    assert "vessel_rows" not in known  # there is no .vessel


def test_nothing_need_be_given(tmp_path: Path) -> None:
    found = instrument(bare(tmp_path / "a.TCF"))
    assert found.to_dict() == {}
    assert math.isnan(found.objective_na)


def test_sidecars_stand_in_for_what_is_not_in_the_file(tmp_path: Path) -> None:
    path = bare(tmp_path / "a.TCF")
    write_one(tmp_path / "other" / "b.TCF", [tomogram(0)], beside=True, well="C04")
    for name in ("config.dat", ".experiment", ".vessel", ".parent"):
        (tmp_path / "other" / name).rename(tmp_path / name)
    found = instrument(path)
    assert (found.objective_na, found.well, found.medium_index, found.vessel_columns) == (0.95, "C04", 1.337, 12)


def test_what_lies_in_the_file_goes_first(tmp_path: Path) -> None:
    path = write_one(tmp_path / "a.TCF", [tomogram(0)], beside=True, well="B03")
    (tmp_path / "config.dat").write_text("[AcquisitionPosition]\nWell=H12\n")
    assert instrument(path).well == "B03"


def test_sidecars_of_a_folder_of_many_belong_to_none(tmp_path: Path) -> None:
    path = bare(tmp_path / "a.TCF")
    (tmp_path / "b.tcf").write_bytes(b"")
    (tmp_path / "config.dat").write_text("[AcquisitionPosition]\nWell=H12\n")
    found = instrument(path)
    assert found.well == ""
    assert found.notes == ("config.dat may belong to another acquisition in this folder",)


def test_a_sidecar_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "elsewhere"
    secret.write_text("[JobInfo]\nTitle=secret\n")
    (tmp_path / "acquisition").mkdir()
    path = bare(tmp_path / "acquisition" / "a.TCF")
    path.with_name("config.dat").symlink_to(secret)
    found = instrument(path)
    assert "secret" not in str(found)
    assert found.notes == ("config.dat beside the file is no small plain file",)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp949"])
def test_korean_is_read_in_either_encoding(tmp_path: Path, encoding: str) -> None:
    path = bare(tmp_path / "a.TCF")
    (tmp_path / "config.dat").write_bytes("[JobInfo]\r\nTitle=세포 사멸\r\n".encode(encoding))
    assert instrument(path).title == "세포 사멸"


@pytest.mark.parametrize("spelling", ["ObjectiveNA=0.95", "Objective_NA = 0.95", 'objective na="0.95"'])
def test_keys_are_found_however_they_are_spelled(tmp_path: Path, spelling: str) -> None:
    path = bare(tmp_path / "a.TCF")
    embed(path, "Config", np.frombuffer(f"[DeviceInfo]\n{spelling}\n".encode(), dtype=np.uint8))
    assert instrument(path).objective_na == 0.95


@pytest.mark.parametrize(
    "attributes",
    [
        {"DeviceSerial": np.array([b"XP58002\0\0"]), "Title": b"Tod"},
        {"DeviceSerial": "XP58002", "Title": np.array(["Tod"], dtype=h5py.string_dtype())},
        {"DeviceSerial": np.bytes_(b"XP58002"), "Title": np.array(b"Tod\0")},
    ],
)
def test_texts_come_in_any_form(tmp_path: Path, attributes: dict[str, Any]) -> None:
    path = bare(tmp_path / "a.TCF")
    with h5py.File(path, "r+") as file:
        file.attrs.update(attributes)
    found = instrument(path)
    assert (found.serial, found.title) == ("XP58002", "Tod")


def _link(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.require_group(RAW)["Config"] = h5py.ExternalLink("/etc/passwd", "/")


def _odd_attributes(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs.update({"Title": np.zeros(0), "DeviceSerial": np.arange(3), "UserID": h5py.Empty("f4")})
        file.require_group("Info/Device").attrs.update({"NA": "much", "Magnification": np.inf, "RI": np.nan})


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: embed(path, "Config", np.frombuffer(bytes(range(256)) * 40, dtype=np.uint8)),
        lambda path: embed(path, "Config", np.arange(5.0)),
        lambda path: embed(path, "Experiment", np.frombuffer(b"{" * 100_000, dtype=np.uint8)),
        lambda path: embed(path, "Experiment", np.frombuffer(b"[" * 100_000, dtype=np.uint8)),
        lambda path: embed(path, "Experiment", np.frombuffer(b"9" * 10_000, dtype=np.uint8)),
        lambda path: embed(path, "Experiment", np.frombuffer(b'{"medium": [1], "sampleType": {}}', dtype=np.uint8)),
        lambda path: path.with_name(".vessel").write_bytes(b'{"well": {"rows": true, "columns": 1e99}}'),
        lambda path: path.with_name(".experiment").write_bytes(b"\xff\xfe\0{"),
        lambda path: path.with_name(".parent").mkdir(),
        lambda path: path.with_name("config.dat").write_bytes(b"x" * (2 << 20)),
        lambda path: path.with_name("config.dat").write_bytes(
            b"[DeviceInfo]\nObjective_NA=nan\nMagnification=1e999\n=\n=x"
        ),
        _link,
        _odd_attributes,
    ],
)
def test_garbage_is_left_out_and_hurts_nobody(tmp_path: Path, spoil: Callable[[Path], Any]) -> None:
    path = bare(tmp_path / "a.TCF")
    spoil(path)
    known = instrument(path).to_dict()
    json.dumps(known, allow_nan=False)
    assert set(known) <= {"notes", "configuration", "serial"}
