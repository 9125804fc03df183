"""The commands around classifiers: each once as it is meant, and once with a mistake that is told."""

import copy
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from models.classifier import Card, build_classifier, save_classifier
from models.recipes import make_recipe
from models.shelf import SHIPPED
from plates.errors import MissingInputError, SettingsError
from plates.states import STATES
from screening.classifier_commands import kind_of, scored
from screening.classifiers import NARROW, card_lines, line_of, list_shelf, shelf_table
from screening.train import check_means, claim, prepare
from screening.verify import verify
from tests.faults.harm import flip_bit
from tests.plates.annotation.stained_plates import stained_plate
from tests.screening.test_cli import called
from tests.screening.test_train import PX, RECIPE, make_plate

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def tomoscreen(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return lambda *words: called(monkeypatch, capsys, *words)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two plates with their table, a recipe, and an untrained classifier of such patches."""
    folder = tmp_path_factory.mktemp("commands")
    rows = [row for number in range(2) for row in make_plate(folder, f"P{number + 1}", wells=15, seed=number)]
    table = pd.DataFrame(rows)
    table.groupby(["plate", "well"]).head(4).to_csv(folder / "annotations.csv", index=False)
    (folder / "recipe.toml").write_text(
        f'[recipe]\narchitecture = "resnet18"\nepochs = 1\nbatch = 32\npatch_px = {PX}\nsmall_share = 0.0\n'
    )
    card = Card(name="first", architecture="resnet18", patch_px=PX, wells={"train": ["P1.zarr:A01"]}, trained_on="x")
    save_classifier(build_classifier(card), folder / "first")
    return folder


def refused(answer: tuple[int, str, str], code: int, *named: str) -> None:
    left, out, err = answer
    assert left == code, (out, err)
    assert err.count("error: ") == 1
    assert "Traceback" not in err
    for text in named:
        assert text in err


def test_annotate_says_what_to_do_next_and_why_patches_are_undecided(tomoscreen: Command, tmp_path: Path) -> None:
    store = stained_plate(tmp_path).path
    code, out, _ = tomoscreen("annotate", store, "--pi", "200", "--per-state", "1")
    assert code == 0
    assert "gate of PI: 200\n" in out
    assert "undecided: 18 markers positive, the compound's pathway is unknown" in out
    assert "Fewer than three wells hold patches of apoptosis (1)" in out
    assert f"Next: tomoscreen train {tmp_path / 'S1.annotations.csv'}" in out


def test_annotate_names_untrusted_placements_as_the_reason_for_no_state(tomoscreen: Command, tmp_path: Path) -> None:
    store = stained_plate(tmp_path, timepoints=1, registration={"trusted": False, "residual_um": float("nan")}).path
    answer = tomoscreen("annotate", store, "--per-state", "1")
    refused(answer, 2, "no patch got a state", "54 placement not trusted", "--believe-metadata")
    assert not list(tmp_path.glob("*.annotations.csv"))


def test_train_says_the_test_score_first_and_what_comes_next(tomoscreen: Command, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "net"
    words = ("train", folder / "annotations.csv", out, "--recipe", folder / "recipe.toml", "--trained-on", "a test")
    code, said, _ = tomoscreen(*words)
    assert code == 0
    test, validation = (said.index(f"{what} wells, which") for what in ("test", "validation"))
    assert test < validation
    assert f"Next: tomoscreen evaluate {out} {folder / 'annotations.csv'}" in said
    card = json.loads((out / "card.json").read_text())
    assert f"accuracy {card['metrics']['test']['accuracy']:.3f}" in said
    assert card["command"].endswith("--trained-on 'a test'")
    refused(tomoscreen(*words), 7, "exists already")


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (("--states", "apoptosis"), 2, "two or more different names"),
        (("--states", "live,dead"), 2, "Expected one of live, dead"),
        (("--weights", "gone.pth"), 3, "There is no file of weights gone.pth"),
        (("--device", "abacus"), 2, "'abacus' is not known"),
        (("--from", "gone"), 7, "There is no classifier folder gone"),
        (("--by", "plate", "--hold-out", "P9"), 2, "Expected one of P1, P2"),
        (("--folds", "--hold-out", "P1"), 2, "--folds holds out each plate in turn"),
        (("--recipe", "gone.toml"), 3, "gone.toml"),
    ],
)
def test_a_training_that_cannot_be_leaves_nothing(
    words: tuple[str, ...], code: int, named: str, tomoscreen: Command, folder: Path, tmp_path: Path
) -> None:
    refused(tomoscreen("train", folder / "annotations.csv", tmp_path / "net", *words), code, named)
    assert list(tmp_path.iterdir()) == []


def test_two_plates_are_left_out_in_turn_though_they_are_too_few_for_a_split(
    tomoscreen: Command, folder: Path, tmp_path: Path
) -> None:
    words = ("train", folder / "annotations.csv", tmp_path / "folds", "--folds", "--recipe", folder / "recipe.toml")
    code, out, _ = tomoscreen(*words)
    assert code == 0
    assert "without P1: balanced accuracy" in out
    assert "without P2: balanced accuracy" in out
    refused(tomoscreen(*words, "--seed", "1"), 2, "holds a leave-one-out on other patches or with other settings")


def test_evaluate_prints_what_it_stored_and_where_its_page_is(
    tomoscreen: Command, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "judged"
    code, said, _ = tomoscreen("evaluate", folder / "first", folder / "annotations.csv", "--out", out)
    assert code == 0
    record = json.loads((out / "evaluation.json").read_text())
    assert record["data"]["wells"] == 29, "one of thirty was trained on"
    assert f"accuracy             {record['scores']['accuracy']['value']:.4f}" in said
    assert f"Page: {out / 'evaluation.html'}" in said
    refused(tomoscreen("evaluate", folder / "first", "gone.csv", "--out", tmp_path / "x"), 2, "gone.csv")
    refused(tomoscreen("evaluate", tmp_path, folder / "annotations.csv", "--out", tmp_path / "x"), 7, str(tmp_path))
    assert not (tmp_path / "x").exists()


def test_evaluate_warns_where_a_plate_tells_the_state(tomoscreen: Command, folder: Path, tmp_path: Path) -> None:
    rows = pd.read_csv(folder / "annotations.csv")
    rows["plate"] = [str(folder / name) for name in rows["plate"]]
    rows[rows["state"].isin(STATES[:3]) == rows["plate"].str.contains("P1")].to_csv(tmp_path / "odd.csv", index=False)
    code, said, _ = tomoscreen("evaluate", folder / "first", tmp_path / "odd.csv", "--out", tmp_path / "judged")
    assert code == 0
    assert said.startswith("warning: ")
    assert "plate" in said.splitlines()[0]


def test_compare_answers_first_and_refuses_the_wrong_network(
    tomoscreen: Command, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the command compares patches of 160 px, which would take a minute
    monkeypatch.setattr(
        "models.recipes.make_recipe", lambda values, *, where: make_recipe(values | {"patch_px": PX}, where=where)
    )
    words = ("--epochs", "1", "--planes", "2")
    code, out, _ = tomoscreen("compare", folder / "annotations.csv", tmp_path / "both", *words)
    assert code == 0
    record = json.loads((tmp_path / "both" / "comparison.json").read_text())
    assert f"{100 * record['difference']['value']:+.1f} points" in out.splitlines()[0]
    assert "P1, P2 were trained on too" in out
    assert f"Page: {tmp_path / 'both' / 'comparison.html'}" in out
    assert tomoscreen("verify", tmp_path / "both")[0] == 0
    for file in ("comparison.csv", "two/training.csv", "three/card.json"):
        flip_bit(tmp_path / "both" / file, byte=30)
        assert [found.file.name for found in verify([tmp_path / "both"]).bad][:1] == [Path(file).name]
        flip_bit(tmp_path / "both" / file, byte=30)
    wrong = tomoscreen("compare", folder / "annotations.csv", tmp_path / "wrong", "--two", "small3d")
    refused(wrong, 2, "small3d does not look at projections")
    assert not (tmp_path / "wrong").exists()


def test_adapt_tells_before_and_after_and_warns_of_wells_that_are_known(
    tomoscreen: Command, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.adaptation.fine_tune", lambda start, *_, **__: copy.deepcopy(start.network))
    rows = pd.read_csv(folder / "annotations.csv")
    rows["plate"] = [str(folder / name) for name in rows["plate"]]
    first = (rows["plate"].str.contains("P1")) & (rows["well"] == "A01")
    rows.assign(split=["test" if one else "train" for one in first]).to_csv(tmp_path / "new.csv", index=False)
    out = tmp_path / "adapted"
    words = ("adapt", folder / "first", tmp_path / "new.csv", out, "--budget", "5", "--norm", "keep")
    code, said, _ = tomoscreen(*words, "--old", folder / "annotations.csv")
    assert code == 0
    assert "warning: first was made from 1 of the 1 wells that judge" in said
    assert "before" in said
    assert "on the old patches" in said
    assert f"Page: {out / 'adaptation.html'}" in said
    refused(tomoscreen(*words[:3], tmp_path / "x", "--budget", "ten"), 2, "--budget got 'ten'")
    assert not (tmp_path / "x").exists()


def test_every_file_that_train_evaluate_and_adapt_leave_is_vouched_for(
    tomoscreen: Command, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.adaptation.fine_tune", lambda start, *_, **__: copy.deepcopy(start.network))
    table, net, judged, adapted = folder / "annotations.csv", *(tmp_path / name for name in ("net", "judged", "new"))
    for words in (
        ("train", table, net, "--recipe", folder / "recipe.toml"),
        ("evaluate", net, table, "--out", judged),
        ("adapt", net, table, adapted, "--budget", "5", "--norm", "keep"),
    ):
        assert tomoscreen(*words)[0] == 0
    assert {file.name for file in adapted.iterdir()} >= {"adaptation.json", "adaptation.html", "SHA256SUMS"}
    for one in (net, adapted):  # no false alarm
        assert tomoscreen("models", "verify", one)[0] == 0
    assert tomoscreen("verify", tmp_path)[0] == 0
    for file in [file for one in (net, judged, adapted) for file in sorted(one.iterdir())]:
        flip_bit(file, byte=file.stat().st_size // 2, bit=1)
        found = [one.file for one in verify([file.parent]).bad]
        assert file in found or (found and file.name == "SHA256SUMS")
        flip_bit(file, byte=file.stat().st_size // 2, bit=1)
    assert verify([tmp_path]).bad == []
    (net / "SHA256SUMS").unlink()  # without the list
    flip_bit(net / "training.csv", byte=40)
    assert verify([net]).bad == []


def test_models_are_listed_shown_verified_and_exported(tomoscreen: Command, tmp_path: Path) -> None:
    code, out, _ = tomoscreen("models", "list", SHIPPED)
    assert code == 0
    assert f"{SHIPPED}" in out, "a pipe is as wide as the table needs"
    code, out, _ = tomoscreen("models", "show", SHIPPED, "--json")
    assert json.loads(out)["name"] == json.loads((SHIPPED / "card.json").read_text())["name"]
    assert tomoscreen("models", "show", SHIPPED)[1].startswith("name")
    code, out, _ = tomoscreen("models", "verify", SHIPPED)
    assert code == 0
    assert "bad" not in out
    damaged = Path(shutil.copytree(SHIPPED, tmp_path / "damaged"))
    (damaged / "weights.safetensors").write_bytes((damaged / "weights.safetensors").read_bytes()[:-9])
    refused(tomoscreen("models", "verify", damaged), 7, "is not in order: ")
    refused(tomoscreen("models", "show", tmp_path / "none"), 7, "There is no classifier folder")
    refused(tomoscreen("models", "export", tmp_path / "none", tmp_path / "a.onnx"), 7, "no classifier folder")
    assert not (tmp_path / "a.onnx").exists()


def test_a_narrow_window_gets_fewer_columns() -> None:
    table = shelf_table(list_shelf([SHIPPED]), width=100)
    assert tuple(column.header for column in table.columns) == NARROW
    wide = shelf_table(list_shelf([SHIPPED]))
    assert [column.header for column in wide.columns] == list(line_of(list_shelf([SHIPPED])[0]))


def test_the_threshold_of_a_card_is_told_in_words() -> None:
    card = json.loads((SHIPPED / "card.json").read_text())
    told = card_lines(card | {"uncertain": {"threshold": 0.27412462, "coverage": 0.95}})["uncertain"]
    assert told == "below a probability of 0.274, as 5.0% of the validation patches were"


def test_scores_without_an_interval_are_told_without_one() -> None:
    scores = {"accuracy": 0.5, "accuracy_low": None, "accuracy_high": None, "patches": 4, "wells": 2}
    assert scored({"validation": scores}) == [
        "accuracy 0.500 on 4 patches of 2 validation wells, which chose the epoch."
    ]


def test_a_training_that_goes_on_takes_the_kind_of_its_start(folder: Path) -> None:
    assert kind_of(folder / "first") == {"architecture": "resnet18", "patch_px": PX}


def test_a_table_is_not_dealt_for_folds_and_a_folder_is_claimed_once(folder: Path, tmp_path: Path) -> None:
    table, _ = prepare(folder / "annotations.csv", deal=False)
    assert "split" not in table
    claim(tmp_path / "out", "a", what="comparison")
    claim(tmp_path / "out", "a", what="comparison")
    with pytest.raises(SettingsError, match="holds a comparison on other patches"):
        claim(tmp_path / "out", "b", what="comparison")


def test_weights_are_looked_for_before_patches_are_read() -> None:
    check_means(replace(RECIPE, weights="imagenet"), device="cpu")
    with pytest.raises(MissingInputError, match=r"no file of weights gone\.pth"):
        check_means(replace(RECIPE, weights="gone.pth"), device="cpu")
