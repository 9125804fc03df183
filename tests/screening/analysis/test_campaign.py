"""Plates combined: fitted together, failed ones kept apart, results readable by plain xarray."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from plates.errors import MissingInputError, StoreError
from plates.results import write_result
from screening.analysis.campaign import combine
from screening.analysis.normalization import normalize
from screening.analysis.quality import assess

from .by_hand import Kill, fractions_of

KILLERS: dict[str, Kill] = {
    "apo": {"apoptosis": (0.3, 1.5, 0.9)},
    "nec": {"necrosis": (3.0, 1.5, 0.9)},
    "flat": {},
}


def plate_at(path: Path, *, seed: int, verdict: str | None = None, compounds: dict[str, Kill] = KILLERS) -> Path:
    plate = fractions_of(compounds, effective=100, seed=seed)
    quality = assess(plate)
    if verdict:
        quality.attrs["verdict"] = verdict
    write_result(path, "normalized", normalize(plate), provenance={})
    write_result(path, "quality", quality, provenance={})
    return path


def group(path: Path, name: str) -> xr.Dataset:
    with xr.open_dataset(path, group=name, engine="zarr", consolidated=False) as dataset:
        return dataset.load()


def test_replicates_on_two_plates_become_one_ranking(tmp_path: Path) -> None:
    stores = [plate_at(tmp_path / f"P{i}.results.zarr", seed=i) for i in (1, 2)]
    written = combine(stores, campaign=tmp_path / "screen")
    assert written == tmp_path / "screen.results.zarr"
    ranking = group(written, "ranking")
    assert list(ranking.compound.values) == ["apo", "nec", "flat"]
    curves = group(written, "dose_response")
    assert set(curves.plate.values.ravel()) == {"P1", "P2"}
    assert float(curves.ec50.sel(compound="apo", readout="death")) == pytest.approx(0.3, rel=0.5)
    assert set(group(written, "kinetics").compound.values) == {"apo", "nec", "flat"}
    assert list(group(written, "plates").used.values) == [True, True]


def test_a_failed_plate_is_listed_but_not_fitted(tmp_path: Path) -> None:
    shifted: dict[str, Kill] = {
        "apo": {"apoptosis": (10.0, 1.5, 0.9)},
        "nec": {"necrosis": (0.1, 1.5, 0.9)},
        "flat": {},
    }
    good = plate_at(tmp_path / "good.results.zarr", seed=1)
    bad = plate_at(tmp_path / "bad.results.zarr", seed=2, verdict="FAIL", compounds=shifted)
    written = combine([good, bad], campaign=tmp_path / "screen.results.zarr")
    plates = group(written, "plates")
    assert dict(zip(plates.plate.values, plates.used.values, strict=True)) == {"good": True, "bad": False}
    assert "bad" not in group(written, "dose_response").plate.values
    # with nothing but failed plates there is still something to look at, and a note
    only = combine([bad], campaign=tmp_path / "only")
    assert "Every plate failed" in group(only, "plates").attrs["note"]
    assert np.isfinite(group(only, "ranking").ec50.values[0])


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="at least one plate"):
        combine([], campaign=tmp_path / "screen")
    with pytest.raises(MissingInputError, match="tomoscreen analyse"):
        combine([tmp_path / "P9.results.zarr"], campaign=tmp_path / "screen")
    with pytest.raises(StoreError, match="Two plates are called P1"):
        combine([tmp_path / "a" / "P1.results.zarr", tmp_path / "b" / "P1.results.zarr"], campaign=tmp_path / "screen")
