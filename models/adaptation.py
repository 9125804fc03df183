"""A classifier and a few annotated patches of another kind: how much better it gets on those, and what it forgets."""

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from plates.errors import SettingsError
from plates.files import write_durable

from .abstention import choose_uncertain
from .calibration import Calibration, fit_temperature
from .checksums import add_checksums
from .classifier import Card, Classifier, load_classifier, refuse_existing, save_classifier
from .datasets import Patches, require_kind, update_digest, well_names
from .evaluation import evaluate
from .finetuning import Tuning, choose_norm, fine_tune
from .outliers import LEAST_PATCHES, Outliers, fit_outliers
from .prediction import predict_features, predict_logits
from .scores import score
from .shelf import ADAPTATION

BUDGETS = (25, 50, 100, 200)


def adapt(
    classifier: Classifier,
    patches: Patches,
    *,
    out: Path,
    budgets: Sequence[int] = BUDGETS,
    old: Patches | None = None,
    tuning: Tuning | None = None,
    seed: int = 0,
    text: dict[str, str] | None = None,
    name: str | None = None,
    command: str = "",
    progress: Callable[[int, int, str], None] | None = None,
) -> dict[str, Any]:
    """Adapt a classifier to patches of another cell line, dose range or instrument, and write its folder.

    It is tuned once for each budget, to ever more of the "train" patches: each step holds the one before,
    balanced over states and spread over wells. The classifier written is the one of the largest budget.
    The "test" patches judge and decide nothing. "validation" patches, if there are any, choose how BatchNorm
    is treated and fit the temperature; without them the former is chosen on a third of the wells of the few
    patches (`choose_norm`), and the classifier is neither calibrated nor knows outliers.

    Parameters
    ----------
    classifier
        Left as it is.
    patches
        Of the new kind, with the classifier's states.
    out
        Folder to make. What is done already of an interrupted adaptation lies beside it (`<out>.adapting`).
    budgets
        Numbers of patches to tune to. Those that exceed the "train" patches stand for all of these.
    old
        Patches of the kind that the classifier was made from: their "test" split measures what is forgotten,
        their "train" split is rehearsed.
    tuning
        How; by default with `choose_norm`'s choice for BatchNorm.
    seed
        Of the default tuning and of the order in which patches are taken.
    text
        What classifier, new_line, old_line, data and method are, in words, for the record and the card.
    name, command
        For the card.
    progress
        Called with (step, steps, what) of the work.

    Returns
    -------
    record
        As it lies in `<out>/adaptation.json`: `states`; `before` and `after`, scores of the "test" patches as
        `scores.score` gives them; `curve`, [{patches, wells, accuracy, old_accuracy}]; `old_line`, {before,
        after} or None; `norm`, the measured alternatives; `tuning`; `from`, name and hash; `text`.

    Raises
    ------
    SettingsError
        If states or kinds of image differ, "train" or "test" is empty, or a budget is no number from 1 up.
    ClassifierError
        If `out` exists.
    """
    refuse_existing(out)
    if not budgets or min(budgets) < 1:
        raise SettingsError(
            f"The budgets are {', '.join(map(str, budgets)) or 'none'}. Expected numbers of patches from 1 up, such as "
            f"{', '.join(map(str, BUDGETS))}."
        )
    _check(classifier.card, patches, "new")
    if old is not None:
        _check(classifier.card, old, "old", needs=("test",))
    pool, validation, test = (patches.of(split) for split in ("train", "validation", "test"))
    rehearsed = None if old is None or len(old.of("train")) == 0 else old.of("train")
    order = nested_order(pool, seed=tuning.seed if tuning else seed)
    work = out.with_name(out.name + ".adapting")
    work.mkdir(parents=True, exist_ok=True)
    report = progress or (lambda *_: None)

    sizes = sorted({min(budget, len(pool)) for budget in budgets})
    before = _judge(classifier, test, old)
    largest = pool.take(np.sort(order[: sizes[-1]]))
    if tuning is None:
        report(0, len(sizes), "choosing the treatment of BatchNorm")
        norm, measured = choose_norm(classifier, largest, Tuning(seed=seed), validation=validation, old=rehearsed)
        tuning = Tuning(norm=norm, seed=seed)
    else:
        norm, measured = tuning.norm, {}
    steps = []
    for number, size in enumerate(sizes):
        report(number, len(sizes), f"adapting to {size} patches")
        few = pool.take(np.sort(order[:size]))
        steps.append(
            _step(classifier, few, work / f"patches-{size:06d}", tuning, rehearsed, validation, test, old, command)
        )
    report(len(sizes), len(sizes), "adapted")
    after = steps[-1]
    said = _text(classifier, largest, validation, test, old, tuning, text or {})
    record = {
        "states": list(classifier.card.states),
        "before": before["new"],
        "after": after["new"],
        "curve": [
            {
                "patches": step["patches"],
                "wells": step["wells"],
                "accuracy": step["new"]["accuracy"],
                "old_accuracy": None if old is None else step["old"]["accuracy"],
            }
            for step in steps
        ],
        "old_line": None if old is None else {"before": before["old"], "after": after["old"]},
        "norm": {"chosen": norm, "log_loss": measured},
        "tuning": asdict(tuning),
        "from": {
            "name": classifier.card.name,
            "weights_sha256": classifier.card.weights_sha256,
            "calibration": classifier.card.calibration,
        },
        "text": said,
    }
    _publish(work / f"patches-{sizes[-1]:06d}", out, record, name=name or out.name, device=str(classifier.device))
    shutil.rmtree(work)
    return record


def read_adaptation(folder: Path) -> dict[str, Any]:
    """Read the record of an adaptation from its classifier's folder."""
    try:
        record: dict[str, Any] = json.loads((folder / ADAPTATION).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"{folder} holds no adaptation ({error}). Expected a folder with {ADAPTATION}. Make one with "
            "'tomoscreen adapt'."
        ) from error
    return record


def nested_order(patches: Patches, *, seed: int) -> npt.NDArray[np.int64]:
    """An order of the patches whose every beginning is balanced over states and spread over wells.

    The states take turns; each takes a patch of the well that has given the fewest so far, at random where
    several have. A state that runs out leaves its turns to the others.
    """
    random = np.random.default_rng(seed)
    wells, well = np.unique(patches.group, return_inverse=True)
    left: dict[int, dict[int, list[int]]] = {int(state): {} for state in np.unique(patches.truth)}
    for place in random.permutation(len(patches)).tolist():
        left[int(patches.truth[place])].setdefault(int(well[place]), []).append(place)
    given = np.zeros(len(wells), dtype=np.int64)
    order = []
    while left:
        for state, by_well in list(left.items()):
            chosen = min(by_well, key=lambda number: given[number])  # the first of equals, in random order
            order.append(by_well[chosen].pop())
            given[chosen] += 1
            if not by_well[chosen]:
                del by_well[chosen]
            if not by_well:
                del left[state]
    return np.array(order, dtype=np.int64)


def _check(card: Card, patches: Patches, what: str, needs: tuple[str, ...] = ("train", "test")) -> None:
    if patches.states != card.states:
        raise SettingsError(
            f"The {what} patches are annotated as {', '.join(patches.states)}, the classifier {card.name!r} tells "
            f"{', '.join(card.states)} apart. Expected the same states in the same order."
        )
    require_kind(patches, card)
    for split in needs:
        if len(patches.of(split)) == 0:
            use = "nothing would be adapted to" if split == "train" else "nothing would tell whether it helped"
            raise SettingsError(
                f"None of the {what} patches is in the split {split!r}, so that {use}. Expected wells in "
                f"{' and '.join(map(repr, needs))}. Annotate more wells, or correct the split column."
            )


def _judge(classifier: Classifier, test: Patches, old: Patches | None) -> dict[str, Any]:
    judged = {"new": _scores(classifier, test)}
    if old is not None:
        judged["old"] = _scores(classifier, old.of("test"))
    return judged


def _scores(classifier: Classifier, patches: Patches) -> dict[str, Any]:
    probability = _probability(classifier, patches, classifier.card.temperature)
    return score(probability, patches.truth, groups=patches.group, states=patches.states)


def _probability(classifier: Classifier, patches: Patches, temperature: float) -> npt.NDArray[np.float32]:
    probability: npt.NDArray[np.float32] = softmax(predict_logits(classifier, patches) / temperature, axis=1)
    return probability


def _outliers(tuned: Classifier, few: Patches, validation: Patches) -> Outliers | None:
    if len(validation) == 0 or len(few) < LEAST_PATCHES:
        return None
    return fit_outliers(predict_features(tuned, few), few.truth, predict_features(tuned, validation))


def _step(
    classifier: Classifier,
    few: Patches,
    folder: Path,
    tuning: Tuning,
    rehearsed: Patches | None,
    validation: Patches,
    test: Patches,
    old: Patches | None,
    command: str,
) -> dict[str, Any]:
    """One budget: its classifier in `folder` and its scores; one that is done already is not done again."""
    fingerprint = _fingerprint(classifier, tuning, few, rehearsed, validation, test, old)
    note = folder.with_suffix(".json")
    if note.exists() and folder.exists():
        done: dict[str, Any] = json.loads(note.read_text(encoding="utf-8"))
        if done["fingerprint"] == fingerprint:
            return done
    shutil.rmtree(folder, ignore_errors=True)
    network = fine_tune(classifier, few, tuning, old=rehearsed)
    tuned = Classifier(network=network, card=classifier.card, device=classifier.device)
    calibration = _calibration(tuned, validation)
    card = replace(
        classifier.card,
        temperature=calibration.temperature,
        calibration=calibration.text,
        trained_on=_trained_on(classifier.card, few),
        wells=_wells(classifier.card, few, validation, test),
        fingerprint=fingerprint,
        seed=tuning.seed,
        command=command,
        # the old network's thresholds say nothing of this one's confidence and features
        uncertain=choose_uncertain(_probability(tuned, validation, calibration.temperature)) if len(validation) else {},
    )
    tuned = replace(tuned, card=card, outliers=_outliers(tuned, few, validation))
    probability = _probability(tuned, test, card.temperature)
    metrics = {"test": evaluate(probability, test.truth, groups=test.group, states=test.states)}
    tuned = save_classifier(replace(tuned, card=replace(card, metrics=metrics)), folder)
    made = {
        "fingerprint": fingerprint,
        "patches": len(few),
        "wells": len(np.unique(few.group)),
        **_judge(tuned, test, old),
    }
    part = note.with_suffix(".part")
    part.write_text(json.dumps(made), encoding="utf-8")
    part.replace(note)
    return made


def _calibration(tuned: Classifier, validation: Patches) -> Calibration:
    if len(validation) == 0:
        return Calibration(1.0, "not calibrated: no validation wells of the patches that it was adapted to")
    wells = len(np.unique(validation.group))
    return fit_temperature(
        predict_logits(tuned, validation), validation.truth, held_out=f"{wells} validation wells of the new kind"
    )


def _trained_on(card: Card, few: Patches) -> str:
    wells = len(np.unique(few.group))
    before = f" ({card.trained_on})" if card.trained_on else ""
    return (
        f"adapted with {len(few)} patches of {wells} wells from the classifier {card.name}, weights "
        f"{card.weights_sha256[:12]}{before}"
    )


def _wells(card: Card, few: Patches, validation: Patches, test: Patches) -> dict[str, list[str]]:
    """Wells that the adapted classifier knows: those of the first training stay known."""
    new = {"train": few, "validation": validation, "test": test}
    return {split: sorted({*card.wells.get(split, []), *well_names(part)}) for split, part in new.items()}


def _fingerprint(classifier: Classifier, tuning: Tuning, *parts: Patches | None) -> str:
    digest = hashlib.sha256(json.dumps(asdict(tuning), sort_keys=True).encode())
    digest.update(classifier.card.weights_sha256.encode())
    for part in parts:
        if part is None:
            digest.update(b"none")
            continue
        update_digest(digest, part)
    return digest.hexdigest()


def _publish(folder: Path, out: Path, record: dict[str, Any], *, name: str, device: str) -> None:
    """Give the last step's classifier its name, and its folder the record; it appears whole or not at all."""
    last = load_classifier(folder, device=device)
    named = folder.with_name("named")
    shutil.rmtree(named, ignore_errors=True)
    save_classifier(replace(last, card=replace(last.card, name=name)), named)
    write_durable(named / ADAPTATION, (json.dumps(record, indent=1) + "\n").encode())
    add_checksums(named, ADAPTATION)
    named.rename(out)


def _text(
    classifier: Classifier,
    few: Patches,
    validation: Patches,
    test: Patches,
    old: Patches | None,
    tuning: Tuning,
    given: dict[str, str],
) -> dict[str, str]:
    def amount(patches: Patches) -> str:
        return f"{len(patches)} patches of {len(np.unique(patches.group))} wells"

    data = f"adapted with at most {amount(few)}; judged by {amount(test)} that it was not adapted to"
    if len(validation):
        data += f"; calibrated on {amount(validation)}"
    norm = {
        "keep": "BatchNorm's statistics as they were",
        "recalculate": "BatchNorm's statistics recalculated on the new patches",
        "update": "BatchNorm's statistics following the new patches",
    }[tuning.norm]
    stages = (
        f"the head for {tuning.head_steps} steps, then all layers for {tuning.steps}"
        if tuning.head_steps
        else (f"all layers for {tuning.steps} steps")
    )
    method = f"{norm}; {stages}, {tuning.batch} patches each"
    if old is not None and len(old.of("train")) and tuning.rehearsal:
        method += f"; {tuning.rehearsal:.0%} of them old ones, against forgetting"
    said = {"classifier": classifier.card.name, "old_line": classifier.card.trained_on, "method": method}
    if old is not None:
        known = {*classifier.card.wells.get("train", []), *classifier.card.wells.get("validation", [])}
        again = set(well_names(old.of("test"))) & known
        data += f"; what was forgotten is measured on {amount(old.of('test'))}"
        if again:
            data += f", {len(again)} of which it was first trained on: it knew them better than any others"
    return said | {"data": data} | given
