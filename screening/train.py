"""From a table of annotated patches to a classifier and what it is worth: splits, warnings, training, folds."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plates.errors import MissingInputError, SettingsError
from plates.files import write_durable
from plates.states import STATES
from screening.fingerprints import digest

if TYPE_CHECKING:
    import pandas as pd

    from models.classifier import Classifier
    from models.recipes import Recipe
    from models.splits import Unit

PLOT = "training.html"
FOLDS = "folds"
Progress = Callable[[int, int, str], None]


def prepare(
    annotations: Path,
    *,
    states: Sequence[str] = STATES,
    by: "Unit" = "well",
    hold_out: Sequence[str] = (),
    deal: bool = True,
    seed: int = 0,
) -> "tuple[pd.DataFrame, list[str]]":
    """Read the table, deal it to the splits, and say what is wrong with it before an hour is spent on it.

    A column `split` in the table is taken as it is.

    Parameters
    ----------
    deal
        Deal the table to splits; not for `train_folds`, which deals it once for every fold.

    Returns
    -------
    table, warnings
        The table with its splits; one sentence for each way in which a score could deceive.

    Raises
    ------
    SettingsError
        If the table is wrong, or has a split of its own and something else is to be held out.
    """
    from models.annotations import read_annotations
    from models.confounding import check_confounding, describe
    from models.splits import missing_states, split_by

    table = read_annotations(annotations, states=states)
    if "split" in table and hold_out:
        raise SettingsError(
            f"{annotations} has a column 'split', and {', '.join(hold_out)} is to be held out as well. Remove the "
            "column, or leave --hold-out away."
        )
    warnings = describe(check_confounding(table, seed=seed))
    if not deal:
        return table, warnings
    if "split" not in table:
        table = table.assign(split=split_by(table, by=by, seed=seed, hold_out=hold_out))
    return table, [*warnings, *missing_states(table, table["split"])]


def train_classifier(
    table: "pd.DataFrame",
    *,
    out: Path,
    recipe: "Recipe",
    states: Sequence[str] = STATES,
    start: Path | None = None,
    trained_on: str = "",
    device: str = "auto",
    command: str = "",
    progress: Progress | None = None,
) -> "Classifier":
    """Train on the table's splits and write the classifier's folder, with the plot of its training.

    Parameters
    ----------
    table
        As `prepare` returns it.
    start
        Folder of a classifier to go on from.
    """
    from models.checksums import add_checksums
    from models.classifier import load_classifier
    from models.training import train
    from reports.training import write_training_plot

    check_means(recipe, device=device)
    classifier = train(
        table,
        out=out,
        recipe=recipe,
        states=states,
        trained_on=trained_on,
        command=command,
        device=device,
        start=None if start is None else load_classifier(start, device=device),
        progress=_told(progress, recipe, f"training {out.name}"),
    )
    write_training_plot(out / "training.csv", out / PLOT)
    add_checksums(out, PLOT)
    return classifier


def train_folds(
    table: "pd.DataFrame",
    *,
    out: Path,
    recipe: "Recipe",
    by: "Unit" = "plate",
    states: Sequence[str] = STATES,
    device: str = "auto",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Leave out each plate, date or well in turn, train on the others, and pool the scores of what was left out.

    A fold whose classifier is there is not trained again; a folder with folds of another table or recipe is
    refused. The classifiers are kept in `out`; none of them is the one to use: train that on everything.

    Returns
    -------
    scores
        As `models.cross_validation.evaluate_folds` gives them; also written to `out/folds.json`.
    """
    import json

    from models.checksums import write_checksums
    from models.classifier import load_classifier
    from models.cross_validation import evaluate_folds, predict_fold
    from models.splits import folds
    from models.training import fit, read_for, training_folder

    check_means(recipe, device=device)
    dealt = list(folds(table, by=by, seed=recipe.seed))
    claim(out, digest([rows_of(table.assign(split="")), asdict(recipe), list(states), by]), what="leave-one-out")
    answers = []
    for name, split in dealt:
        folder = out / name.replace("/", "_").replace(":", "_")
        patches = read_for(
            recipe, table.assign(split=split), states=states, into=training_folder(folder) / "patches.npy"
        )
        if folder.exists():
            classifier = load_classifier(folder, device=device)
        else:
            told = _told(progress, recipe, f"without {name}")
            classifier = fit(patches, out=folder, recipe=recipe, device=device, progress=told)
        answers.append(predict_fold(name, classifier, patches.of("test")))
    scores = evaluate_folds(answers, states=states, seed=recipe.seed)
    write_durable(out / f"{FOLDS}.json", (json.dumps(scores, indent=1) + "\n").encode())
    write_checksums(out)
    return scores


def check_means(recipe: "Recipe", *, device: str) -> None:
    """Refuse a device or a file of weights that is not there before an hour is spent on reading patches."""
    from models.classifier import resolve_device

    resolve_device(device)
    if recipe.weights not in (None, "imagenet", "kinetics") and not Path(recipe.weights).exists():
        raise MissingInputError(
            f"There is no file of weights {recipe.weights}. Expected 'imagenet', 'kinetics', or the path of a file. "
            "Correct the path."
        )


def claim(out: Path, fingerprint: str, *, what: str) -> None:
    """Refuse a folder with other work in it: a part of that which is finished would be taken for this one's."""
    record = out / "settings.sha256"
    if record.exists() and record.read_text() != fingerprint:
        raise SettingsError(
            f"{out} holds a {what} on other patches or with other settings. Give another folder, or remove this "
            "one to start anew."
        )
    out.mkdir(parents=True, exist_ok=True)
    write_durable(record, fingerprint.encode())


def rows_of(table: "pd.DataFrame") -> list[list[str]]:
    """What a table of annotated patches says, for a fingerprint."""
    columns = ["plate", "well", "field", "timepoint", "y_um", "x_um", "state", "split"]
    return table[columns].astype(str).to_numpy().tolist()


def _told(progress: Progress | None, recipe: "Recipe", text: str) -> Callable[[Any], None] | None:
    if progress is None:
        return None
    return lambda epoch: progress(epoch.epoch + 1, recipe.epochs, text)
