"""Images of any microscope become patches: values, families and states as the settings say, and clear refusals."""

import re
from pathlib import Path

import numpy as np
import pytest

from models.classifier import load_classifier
from models.datasets import Patches
from models.evaluation import write_evaluation
from models.image_sets import read_image_set
from models.recipes import Recipe
from models.training import fit
from plates.errors import MissingInputError, SettingsError
from tests.models.own_images import SETTINGS, values_of, write_images

LIVEDEAD = Path("tests/data/livedead_brightfield/ldc_crops40_120.npz").resolve()
SHARED = Path("../shared/data").resolve()


def test_values_are_deviations_from_the_border_in_the_stated_range(tmp_path: Path) -> None:
    images = np.full((4, 10, 10), 700, dtype=np.uint16)
    images[:, 3:7, 3:7] = np.array([650, 700, 750, 5000]).reshape(4, 1, 1)
    patches = read_image_set(write_images(tmp_path, image=images))
    assert patches.counts.dtype == np.uint16
    middle = values_of(patches, largest=100)[:, 5, 5]
    assert middle == pytest.approx([-50, 0, 50, 100], abs=0.01)  # what lies beyond the largest deviation is cut off
    assert values_of(patches, largest=100)[:, 0, 0] == pytest.approx(0, abs=0.01)
    assert patches.quantity == "grey value"


def test_the_window_of_the_card_holds_the_largest_deviations(tmp_path: Path) -> None:
    images = np.zeros((4, 10, 10))
    images[:, 3:7, 3:7] = np.array([-900, 900, 3, 4]).reshape(4, 1, 1)
    patches = read_image_set(write_images(tmp_path, image=images))
    index = patches.counts / 1e4 - patches.medium_index[:, None, None]
    assert patches.window is not None
    assert (index.min(), index.max()) == pytest.approx(patches.window, abs=1e-4)


def test_a_fixed_medium_keeps_differences_in_brightness(tmp_path: Path) -> None:
    images = np.stack([np.full((10, 10), level) for level in (10, 20, 30, 40)])
    patches = read_image_set(write_images(tmp_path, image=images, values='medium = 25.0\nquantity = "counts"'))
    assert values_of(patches, largest=100)[:, 2, 2] == pytest.approx([-15, -5, 5, 15], abs=0.01)
    assert patches.quantity == "counts"


def test_contrast_of_the_image_undoes_gain_and_brightness(tmp_path: Path) -> None:
    cell = np.zeros((10, 10))
    cell[3:7, 3:7] = np.arange(16).reshape(4, 4)
    images = np.stack([50 + cell, 80 + 4 * cell, 20 + 0.5 * cell, 50 + 0 * cell])
    patches = read_image_set(write_images(tmp_path, image=images, values='contrast = "image"\nleast_contrast = 0.5'))
    found = values_of(patches, largest=100)
    assert found[1] == pytest.approx(found[0], abs=0.01)
    assert found[2] == pytest.approx(found[0], abs=0.01)
    assert np.sqrt((found[0] ** 2).mean()) == pytest.approx(1, abs=0.01)
    assert found[3] == pytest.approx(0, abs=1e-4)


def test_noise_of_an_empty_image_is_not_blown_up(tmp_path: Path) -> None:
    images = np.random.default_rng(0).normal(100, 0.2, (4, 10, 10))
    patches = read_image_set(write_images(tmp_path, image=images, values='contrast = "image"\nleast_contrast = 4.0'))
    assert np.abs(values_of(patches, largest=100)).max() < 0.3


def test_images_are_resampled_without_losing_their_level(tmp_path: Path) -> None:
    y, x = np.mgrid[:20, :20]
    images = np.stack([y, x, y + x, 19 - y]).astype(float)
    settings = write_images(tmp_path, image=images, px=40, values="medium = 0.0")
    found = values_of(read_image_set(settings), largest=100)
    assert found.shape == (4, 40, 40)
    assert found.mean(axis=(1, 2)) == pytest.approx(images.mean(axis=(1, 2)), abs=0.01)
    # a pixel's middle: pixel 11 of 40 lies at 11.5 / 2 - 0.5 of 20
    assert found[0, 11, 20] == pytest.approx(5.25, abs=0.01)


def test_families_stand_for_plates_and_sources_for_wells(tmp_path: Path) -> None:
    names = np.array(["day1_frame3.png", "day1_frame4.png", "day2_frame3.png"])
    settings = write_images(
        tmp_path,
        arrays={"name": names, "of": np.array([0, 2, 1, 0])},
        places="source = 'name'\nsource_index = 'of'\nfamily = '^(day[0-9]+)_'",
    )
    assert read_image_set(settings).group.tolist() == [
        "day1:day1_frame3.png",
        "day2:day2_frame3.png",
        "day1:day1_frame4.png",
        "day1:day1_frame3.png",
    ]


def test_a_family_may_be_an_array_and_every_image_its_own_source(tmp_path: Path) -> None:
    settings = write_images(tmp_path, arrays={"experiment": np.array([1, 1, 2, 2])}, places="family = 'experiment'")
    assert read_image_set(settings).group.tolist() == ["1:image 0", "1:image 1", "2:image 2", "2:image 3"]


def test_labels_are_merged_and_left_out_as_told(tmp_path: Path) -> None:
    settings = write_images(
        tmp_path,
        label=np.array(["dead", "early", "debris", "live"]),
        states="live = ['live']\ndying = ['early', 'dead']",
        places="leave_out = ['debris']",
    )
    patches = read_image_set(settings)
    assert patches.states == ("live", "dying")
    assert patches.truth.tolist() == [1, 1, 0]
    assert [group.split(":")[1] for group in patches.group] == ["image 0", "image 1", "image 3"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arrays": {"image": np.zeros((4, 10, 12))}}, r"shape \(4, 10, 12\).*square grey images"),
        ({"arrays": {"image": np.zeros((4, 10, 10), dtype=complex)}}, "type complex128"),
        ({"arrays": {"image": np.full((4, 10, 10), np.nan)}}, "not finite"),
        ({"label": np.array([0, 1, 0])}, r"'label' has the shape \(3,\).*each of the 4 images"),
        ({"label": np.array([0, 1, 7, 7])}, "2 images have the label 7, which belongs to no state.*leave_out"),
        ({"label": np.array([0, 0, 0, 0])}, "no image has a label of the state 'dead'"),
        ({"states": "live = [0]\ndead = [0, 1]"}, "label 0 is given twice"),
        ({"states": "live = [0, 1]"}, "1 states.*at least two"),
        ({"places": "source = 'nowhere'"}, "holds no array 'nowhere'. Expected one of image, label"),
        ({"places": "family = '^(day)'"}, "finds nothing in 4 of 4 source names, such as 'image 0'"),
        ({"places": "family = '^image'"}, "Expected a regular expression with one group"),
        ({"places": "family = '('"}, "is no regular expression"),
        ({"places": "sources = 'name'"}, "images.sources: .*docs/image_sets.md"),
        ({"values": "contrast = 'plate'"}, "images.values.contrast"),
        (
            {"arrays": {"name": np.array(["a"]), "of": np.arange(4)}, "places": "source = 'name'\nsource_index = 'of'"},
            "'of' does not point into the 1 names of 'name'",
        ),
    ],
)
def test_settings_that_do_not_fit_the_file_are_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    settings = write_images(tmp_path, **change)  # type: ignore[arg-type]
    with pytest.raises(SettingsError) as caught:
        read_image_set(settings)
    assert re.search(message, str(caught.value), re.DOTALL)
    assert "images.toml" in str(caught.value)


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"no file .*none\.toml"):
        read_image_set(tmp_path / "none.toml")
    settings = write_images(tmp_path)
    (tmp_path / "images.npz").unlink()
    with pytest.raises(MissingInputError, match=r"no file .*images\.npz"):
        read_image_set(settings)


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    settings = write_images(tmp_path)
    np.savez(tmp_path / "images.npz", image=np.zeros((4, 10, 10)), label=np.array([0, 1, None, 1], dtype=object))
    with pytest.raises(SettingsError, match="without pickled objects"):
        read_image_set(settings)


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Patches:
    """120 real cells in bright field, 12 of each family."""
    settings = tmp_path_factory.mktemp("cells") / "images.toml"
    values = "[images.values]\ncontrast = 'image'\nleast_contrast = 4.0\nlargest = 8.0"
    places = "source = 'source_name'\nfamily = '^([a-z]+_?)'"
    settings.write_text(SETTINGS.format(file=LIVEDEAD, px=36, places=places, states="live = [0]\ndead = [1]") + values)
    return read_image_set(settings)


def test_real_cells_are_trained_on_and_evaluated_as_a_plate_is(cells: Patches, tmp_path: Path) -> None:
    families = np.array([group.split(":")[0] for group in cells.group])
    split = np.where(families == "ncell", "test", np.where(families == "e", "validation", "train"))
    cells = Patches(**{**vars(cells), "split": split})
    recipe = Recipe(architecture="resnet18", epochs=1, batch=32, patch_px=32, small_share=0.0)
    fit(cells, out=tmp_path / "net", recipe=recipe, device="cpu")
    classifier = load_classifier(tmp_path / "net")
    card = classifier.card
    assert card.states == ("live", "dead")
    assert card.quantity == "grey value"
    assert card.index_window == cells.window
    index = (cells.counts[split == "train", :32, :32] / 1e4 - 1.6384) * 8 / 1.6
    assert card.mean * 8 / 1.6 == pytest.approx(index.mean(), rel=1e-3)
    assert card.sd * 8 / 1.6 == pytest.approx(index.std(), rel=1e-3)
    record = write_evaluation(classifier, cells.of("test"), out=tmp_path / "record")
    assert record["data"]["patches"] == 12
    assert record["data"]["plates"] == 1
    assert record["data"]["known_wells"]["train"] == 0


@pytest.mark.skipif(not SHARED.is_dir(), reason="the images of others are not beside the repository")
def test_the_sets_described_for_the_benchmark_are_read_whole() -> None:
    livedead = read_image_set(Path("tests/benchmarks/livedead.toml"))
    assert np.bincount(livedead.truth).tolist() == [7133, 1524]  # as their README counts them
    assert len({group.split(":")[0] for group in livedead.group}) == 10
    jurkat = read_image_set(Path("tests/benchmarks/jurkat.toml"))
    assert len(jurkat) == 4319
    assert jurkat.states == ("G1", "S", "G2", "M")
