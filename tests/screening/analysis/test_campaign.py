"""Plates combined: fitted together, failed ones kept apart, results readable by plain xarray."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from plates.errors import MissingInputError, StoreError
from plates.results import write_result
from screening.analysis.campaign import combine, open_campaign
from screening.analysis.dose_response import fit_dose_response
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
    write_result(path, "dose_response", fit_dose_response([normalize(plate)]), provenance={})
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


def test_the_ranking_knows_the_campaigns_own_msr_and_how_steady_it_is(tmp_path: Path) -> None:
    stores = [plate_at(tmp_path / f"P{i}.results.zarr", seed=i) for i in (1, 2, 3)]
    written = combine(stores, campaign=tmp_path / "screen", reference="apo")
    ranking = group(written, "ranking")
    assert ranking.attrs["msr_source"] == "apo over 3 plates"
    assert 1 < ranking.attrs["msr"] < 5
    assert list(ranking.hit.values) == [True, True, False]
    assert list(ranking.tie_group.values) == [1, 2, 0]
    assert group(written, "reference_trend").sel(series="reference").value.notnull().all()
    agreement = group(written, "agreement")
    assert (agreement.isel(pair=agreement.kind.values == "plates").concordance > 0.9).all()
    assert set(group(written, "batches").level.values) == {"batch", "plate", "well"}


def classified(path: Path, **attrs: object) -> None:
    write_result(path, "probabilities", xr.Dataset({"x": ("patch", [0.0])}, attrs=attrs), provenance={})


def test_plates_of_two_classifiers_or_voxel_sizes_are_not_ranked_together(tmp_path: Path) -> None:
    stores = [plate_at(tmp_path / f"P{i}.results.zarr", seed=i) for i in (1, 2)]
    for store, model, voxel in zip(stores, ("aaaa", "bbbb"), (0.16, 0.2), strict=True):
        classified(store, classifier_sha256=model, resampled_from_um=[voxel, voxel], stride_px=160)
    with pytest.raises(StoreError) as error:
        combine(stores, campaign=tmp_path / "screen")
    assert "different classifiers: aaaa (P1); bbbb (P2)" in str(error.value)
    assert "different voxel sizes (um): 0.16 x 0.16 (P1); 0.2 x 0.2 (P2)" in str(error.value)
    written = combine(stores, campaign=tmp_path / "screen", allow_mixed=True)
    assert "different classifiers" in group(written, "plates").attrs["mixed"]


def test_doses_a_thousand_times_higher_on_one_plate_are_a_wrong_unit(tmp_path: Path) -> None:
    stores = [plate_at(tmp_path / f"P{i}.results.zarr", seed=i) for i in (1, 2)]
    moved = group(stores[1], "normalized")
    treated = moved.control.values == "none"
    moved = moved.assign_coords(dose=("well", np.where(treated, 1000 * moved.dose.values, moved.dose.values)))
    write_result(stores[1], "normalized", moved, provenance={})
    with pytest.raises(
        StoreError, match=r"3 compounds \(apo, nec, flat\) on plate P2 are 1000 times those on plate P1"
    ):
        combine(stores, campaign=tmp_path / "screen")


def test_a_campaign_opens_as_one_tree(tmp_path: Path) -> None:
    stores = [plate_at(tmp_path / f"P{i}.results.zarr", seed=i) for i in (1, 2)]
    combine(stores, campaign=tmp_path / "screen")
    with open_campaign([tmp_path / "P1.zarr", stores[1], tmp_path / "screen.results.zarr"]) as tree:
        assert set(tree.children) == {"P1", "P2", "screen"}
        assert set(tree["P1"].children) == {"normalized", "quality", "dose_response"}
        assert list(tree["screen/ranking"].compound.values) == ["apo", "nec", "flat"]
        assert tree["P2/normalized"].death.chunks is not None
    with pytest.raises(StoreError, match="Two stores are called P1"):
        open_campaign([tmp_path / "P1.zarr", stores[0]])
    with pytest.raises(MissingInputError, match="There are no results at"):
        open_campaign([tmp_path / "P9.zarr"])
