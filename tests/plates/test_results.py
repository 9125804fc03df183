"""Named results: whole or not there, readable with plain xarray."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from plates import results
from plates.errors import MissingInputError, StoreError
from plates.files import settle
from plates.results import has_result, read_result, results_path, write_result


def fractions(value: float = 0.25) -> xr.Dataset:
    return xr.Dataset(
        {
            "fraction": (("well", "state"), [[value, np.nan], [0.5, 1.0]], {"units": "1"}),
            "compound": ("well", np.array(["DMSO", "staurosporine"])),
            "note": ("well", np.array(["fine", None], dtype=object)),
            "group": ("well", pd.array(["a", "b"], dtype="string")),
            "flagged": ("well", [True, False]),
        },
        coords={"well": ["A01", "A02"], "state": np.array(["apoptosis", "necrosis"], dtype=object)},
        attrs={"rule": "majority"},
    )


def test_a_result_comes_back_with_its_text_numbers_and_provenance(tmp_path: Path) -> None:
    plate = tmp_path / "P012.zarr"
    given = fractions()
    write_result(plate, "fractions", given, provenance={"command": "analyse", "seed": 1})
    stored = read_result(plate, "fractions")
    assert stored["fraction"].dtype == float
    np.testing.assert_array_equal(stored["fraction"], given["fraction"])
    assert list(stored["compound"].values) == ["DMSO", "staurosporine"]
    assert list(stored["note"].values) == ["fine", ""]
    assert list(stored["well"].values) == ["A01", "A02"]
    assert {stored[name].dtype for name in ("compound", "note", "group", "well", "state")} == {np.dtype(object)}
    assert stored["flagged"].dtype == bool
    assert stored.attrs["rule"] == "majority"
    assert json.loads(stored.attrs["provenance"]) == {"command": "analyse", "seed": 1}
    assert stored.sel(well="A02", state="necrosis")["fraction"] == 1.0
    assert given["compound"].dtype.kind == "U"
    assert "provenance" not in given.attrs


def test_plain_xarray_reads_it(tmp_path: Path) -> None:
    write_result(tmp_path / "P012.zarr", "fractions", fractions(), provenance={})
    with xr.open_dataset(
        tmp_path / "P012.results.zarr", group="fractions", engine="zarr", consolidated=False
    ) as stored:
        assert stored["fraction"].sel(well="A01", state="apoptosis") == 0.25


def test_results_lie_beside_the_plate_and_a_campaign_names_its_own() -> None:
    assert results_path(Path("x/P012.zarr")) == Path("x/P012.results.zarr")
    assert results_path(Path("x/P0.1 b.zarr")) == Path("x/P0.1 b.results.zarr")
    assert results_path(Path("campaign.results.zarr")) == Path("campaign.results.zarr")


def test_writing_again_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    plate = tmp_path / "P012.zarr"
    write_result(plate, "fractions", fractions(0.1), provenance={})
    write_result(plate, "layout", fractions(0.9), provenance={})
    smaller = fractions(0.2).drop_vars(["note", "group"]).isel(well=[0])
    write_result(plate, "fractions", smaller, provenance={})
    stored = read_result(plate, "fractions")
    assert stored.sizes["well"] == 1
    assert "note" not in stored
    assert read_result(plate, "layout")["fraction"][0, 0] == 0.9
    assert {path.name for path in tmp_path.iterdir()} == {"P012.results.zarr"}
    names = {path.name for path in (tmp_path / "P012.results.zarr").iterdir()}
    assert names == {"zarr.json", "fractions", "layout"}


def test_a_write_that_fails_leaves_the_earlier_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plate = tmp_path / "P012.zarr"
    write_result(plate, "fractions", fractions(0.1), provenance={})
    with monkeypatch.context() as patch:
        patch.setattr(results, "_replace_folder", lambda new, target: (_ for _ in ()).throw(OSError(28, "disk full")))
        with pytest.raises(OSError, match="disk full"):
            write_result(plate, "fractions", fractions(0.2), provenance={})
    assert read_result(plate, "fractions")["fraction"][0, 0] == 0.1
    assert {path.name for path in tmp_path.iterdir()} == {"P012.results.zarr"}


def test_a_result_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: set[Path] = set()
    renamed = results._replace_folder

    def wait(file: Path) -> None:
        settle(file)
        waited.add(file)

    def rename(new: Path, target: Path) -> None:
        assert waited == {file for file in new.rglob("*") if file.is_file()}
        assert {file.name for file in waited} >= {"zarr.json", "0"}
        renamed(new, target)

    monkeypatch.setattr("plates.results.settle", wait)
    monkeypatch.setattr(results, "_replace_folder", rename)
    write_result(tmp_path / "P012.zarr", "fractions", fractions(), provenance={})
    assert has_result(tmp_path / "P012.zarr", "fractions")


@pytest.mark.parametrize(
    ("name", "command"), [("fields", "ingest"), ("probabilities", "classify"), ("ranking", "analyse")]
)
def test_a_missing_result_names_the_command_that_makes_it(tmp_path: Path, name: str, command: str) -> None:
    assert not has_result(tmp_path / "P012.zarr", name)
    with pytest.raises(MissingInputError, match=f"Run `tomoscreen {command}` first"):
        read_result(tmp_path / "P012.zarr", name)


def test_a_damaged_result_is_said_so(tmp_path: Path) -> None:
    plate = tmp_path / "P012.zarr"
    write_result(plate, "fractions", fractions(), provenance={})
    chunk = next(path for path in (results_path(plate) / "fractions/fraction/c").rglob("*") if path.is_file())
    chunk.write_bytes(chunk.read_bytes()[:-3])
    with pytest.raises(StoreError, match="'fractions' is damaged"):
        read_result(plate, "fractions")


@pytest.mark.parametrize("name", ["../x", "", "a/b", "zarr.json"])
def test_a_name_that_leaves_the_store_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match="cannot name a result"):
        write_result(tmp_path / "P012.zarr", name, fractions(), provenance={})
