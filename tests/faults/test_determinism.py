"""The same numbers from any number of workers, order and batch size (row 42), and no quiet pooling (row 45)."""

import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from plates.errors import TomoscreenError
from plates.layout import read_plate_map
from plates.results import read_result
from plates.shards import ShardWriter
from plates.store import open_plate
from screening import classify, regions
from screening.analyse import analyse_campaign, analyse_plate
from screening.classify import classify_plate
from screening.cluster import cluster
from screening.pipeline import run
from screening.settings import AnalysisSettings, read_settings
from screening.units import Unit

from .small_plate import SmallCampaign

TIMES = re.compile(rb"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?( UTC)?")


def test_pages_are_equal_byte_by_byte_but_for_the_time(fresh: SmallCampaign) -> None:
    pages = []
    for _ in range(2):
        shutil.rmtree(fresh.out, ignore_errors=True)
        run(read_settings(fresh.settings))
        pages.append({file.name: TIMES.sub(b"", file.read_bytes()) for file in sorted(fresh.out.glob("*.html"))})
    assert pages[0].keys() == {"P001.html", "small.html"}
    for name, page in pages[0].items():
        assert page == pages[1][name], name


def test_workers_and_batches_change_no_value(campaign: SmallCampaign, finished: SmallCampaign) -> None:
    from plates.ingest.convert import ingest

    for store in campaign.out.glob("P001*"):
        shutil.rmtree(store) if store.is_dir() else store.unlink()
    plate_map = read_plate_map(campaign.layouts["P001"])
    with cluster(workers=2) as client:
        ingest(campaign.acquisitions["P001"], out=campaign.store(), plate_map=plate_map, name="P001", client=client)
        classify_plate(campaign.store(), classifier=campaign.classifier, batch=3, client=client)
    analyse_plate(campaign.store(), settings=read_settings(campaign.settings).analysis)
    found, expected = (read_result(store, "probabilities") for store in (campaign.store(), finished.store()))
    np.testing.assert_array_equal(found["status"], expected["status"])
    # sums over a batch of another size may round otherwise in the last digits; the calls may not
    np.testing.assert_allclose(found["probability"], expected["probability"], atol=2e-6)
    np.testing.assert_array_equal(
        found["probability"].argmax("state", skipna=False), expected["probability"].argmax("state", skipna=False)
    )
    for well in ("A01", "B02"):
        one, other = (open_plate(of.store()).volume(well, field=0, timepoint=2) for of in (campaign, finished))
        np.testing.assert_array_equal(one, other)


def test_units_in_another_order_and_other_tasks_change_no_bit(
    campaign: SmallCampaign, finished: SmallCampaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(regions.work_folder(campaign.store()))
    shutil.rmtree(campaign.out / "P001.results.zarr" / "probabilities")
    done: list[str] = []
    tasks = classify._tasks

    def reversed_and_alone(units: Sequence[Unit], workers: int) -> Iterator[list[Unit]]:
        assert len(list(tasks(units, workers))) < len(units)  # else they share batches
        for unit in reversed(units):
            done.append(unit.well)
            yield [unit]

    monkeypatch.setattr(classify, "_tasks", reversed_and_alone)
    batch = read_settings(campaign.settings).classify.batch
    classify_plate(campaign.store(), classifier=campaign.classifier, batch=batch, device="cpu")
    assert done == ["B02", "B01", "A02", "A01"]
    assert_same_probabilities(campaign.store(), finished.store())


def assert_same_probabilities(one: Path, other: Path) -> None:
    found, expected = (read_result(store, "probabilities") for store in (one, other))
    for dataset in (found, expected):
        dataset.attrs.pop("provenance")
    xr.testing.assert_identical(found, expected)
    for well in found["well"].values:
        for timepoint in found["timepoint"].values.tolist():
            left, right = (open_plate(store).classes(well, field=0, timepoint=timepoint) for store in (one, other))
            np.testing.assert_array_equal(left, right)


def test_chunks_in_any_order_decode_alike(tmp_path: Path) -> None:
    import zarr

    from plates.shards import array_document

    rng = np.random.default_rng(0)
    image = rng.integers(0, 60000, (4, 40, 40)).astype(np.uint16)
    read = []
    for number, order in enumerate((range(8), reversed(range(8)), rng.permutation(8))):
        array = tmp_path / str(number)
        file = array / "c/0/0/0/0/0"
        file.parent.mkdir(parents=True)
        document = array_document((1, 1, 4, 40, 40), chunk=(2, 20, 20), dtype="uint16", attributes={})
        (array / "zarr.json").write_text(document)
        with file.open("wb") as handle:
            writer = ShardWriter(handle, shape=(4, 40, 40), chunk=(2, 20, 20))
            for place in order:
                z, y, x = (int(value) for value in np.unravel_index(place, (2, 2, 2)))
                part = image[2 * z : 2 * z + 2, 20 * y : 20 * y + 20, 20 * x : 20 * x + 20]
                writer.write_chunk((z, y, x), part)
            writer.finish()
        read.append(np.asarray(zarr.open_array(array, mode="r")[0, 0]))
    for values in read:
        np.testing.assert_array_equal(values, image)


def test_plates_by_two_classifiers_are_not_pooled_quietly(campaign: SmallCampaign, tmp_path: Path) -> None:
    other = campaign.out / "P002.zarr"
    for store in [*sorted(campaign.out.glob("P001*zarr")), campaign.out / "P001.zarr.progress"]:
        shutil.copytree(store, store.with_name(store.name.replace("P001", "P002")), dirs_exist_ok=True)
    import torch

    from models.classifier import Card, build_classifier, save_classifier

    torch.manual_seed(4)
    card = Card(name="another", architecture="resnet18", trained_on="nothing")
    save_classifier(build_classifier(card), tmp_path / "another")
    classify_plate(other, classifier=tmp_path / "another", batch=8)
    settings = AnalysisSettings(draws=100)
    for store in (campaign.store(), other):
        analyse_plate(store, settings=settings)
    results = tmp_path / "pooled.results.zarr"
    with pytest.raises(TomoscreenError, match="classifier"):
        analyse_campaign(results, [campaign.store(), other], settings=settings)
    assert not (results / "ranking").exists()
    allowed = settings.model_copy(update={"allow_mixed": True})
    assert analyse_campaign(results, [campaign.store(), other], settings=allowed)
