"""From a classifier and a table of annotated patches of another kind to an adapted classifier."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from models.classifier import Card
    from models.datasets import Patches

PAGE = "adaptation.html"
# Enough wells judge that the interval says something; the rest is adapted to. Few patches leave none to calibrate.
SHARES = (0.6, 0.0, 0.4)
# Rehearsed patches of the old kind: more are not seen often enough to matter.
REHEARSED = 2000


def adapt_classifier(
    classifier: Path,
    annotations: Path,
    *,
    out: Path,
    old: Path | None = None,
    budgets: Sequence[int] = (25, 50, 100, 200),
    by: str = "well",
    hold_out: Sequence[str] = (),
    norm: str = "choose",
    new_line: str = "",
    seed: int = 0,
    device: str = "auto",
    command: str = "",
    progress: Callable[[int, int, str], None] | None = None,
    warn: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Read the tables, adapt, and write the page about it beside the card; see `models.adaptation.adapt`.

    Parameters
    ----------
    classifier
        Folder of the classifier to go on from.
    annotations
        Table of annotated patches of the new kind. Without a `split` column 60 % of the wells are adapted to
        and 40 % judge; with one, "validation" wells calibrate.
    out
        Folder of the adapted classifier.
    old
        Table of annotated patches of the kind that the classifier was made from. Wells that it was trained on
        are rehearsed, all others measure what is forgotten.
    by, hold_out
        How wells are dealt where there is no `split` column, see `models.splits.split_by`.
    norm
        "choose", "keep", "recalculate" or "update", see `models.finetuning.Tuning`.
    new_line
        What the new patches show, for the card and the report.
    warn
        Called with one sentence for each way in which the scores could deceive.
    """
    from models.adaptation import adapt
    from models.annotations import read_annotations
    from models.checksums import add_checksums
    from models.classifier import load_classifier, refuse_existing
    from models.finetuning import Tuning
    from models.splits import missing_states, split_by
    from plates.errors import SettingsError
    from reports.adaptation import write_adaptation_report

    if norm not in ("choose", "keep", "recalculate", "update"):
        raise SettingsError(f"norm {norm!r} is not known. Expected choose, keep, recalculate or update.")
    refuse_existing(out)
    start = load_classifier(classifier, device=device)
    table = read_annotations(annotations, states=start.card.states)
    if "split" in table and hold_out:
        raise SettingsError(
            f"{annotations} has a column 'split', and {', '.join(hold_out)} is to be held out as well. Remove the "
            "column, or leave --hold-out away."
        )
    if "split" not in table:
        table = table.assign(split=split_by(table, by=by, seed=seed, shares=SHARES, hold_out=hold_out))  # type: ignore[arg-type]
    if warn is not None:
        for sentence in [*missing_states(table, table["split"]), *_known_wells(table, start.card)]:
            warn(f"warning: {sentence}")
    old_patches = None
    if old is not None:
        known = split_known(read_annotations(old, states=start.card.states), card=start.card, seed=seed)
        old_patches = _read(known, start.card)
    record = adapt(
        start,
        _read(table, start.card),
        out=out,
        budgets=budgets,
        old=old_patches,
        tuning=None if norm == "choose" else Tuning(norm=norm, seed=seed),  # type: ignore[arg-type]
        seed=seed,
        text={"new_line": new_line} if new_line else None,
        command=command,
        progress=progress,
    )
    write_adaptation_report(record, out=out / PAGE)
    add_checksums(out, PAGE)
    return record


def _known_wells(table: "pd.DataFrame", card: "Card") -> list[str]:
    """A sentence where the classifier was made from wells that are to judge its adaptation."""
    from models.splits import well_groups

    met = {name for split in ("train", "validation") for name in card.wells.get(split, [])}
    judging = {Path(group).name for group in well_groups(table[table["split"] == "test"]).tolist()}
    if not judging & met:
        return []
    return [
        f"{card.name} was made from {len(judging & met)} of the {len(judging)} wells that judge: the accuracy before "
        "flatters it. Adapt to wells that it has not seen."
    ]


def split_known(table: "pd.DataFrame", *, card: "Card", seed: int = 0) -> "pd.DataFrame":
    """Deal old patches: "train" where the classifier was trained on their well, else "test".

    A classifier whose card names no wells was trained on nobody knows what: then the table's own splits hold,
    and without them its wells are dealt anew. At most 2,000 patches are rehearsed.
    """
    import numpy as np

    from models.splits import split_wells, well_groups

    trained = {name for split in ("train", "validation") for name in card.wells.get(split, [])}
    if trained:
        names = [Path(group).name for group in well_groups(table).tolist()]
        split = np.where(np.isin(names, list(trained)), "train", "test")
    elif "split" in table:
        split = np.where(table["split"].to_numpy() == "test", "test", "train")
    else:
        split = split_wells(table, seed=seed, shares=(0.5, 0.0, 0.5))
    table = table.assign(split=split)
    rehearsed = np.flatnonzero(split == "train")
    dropped = np.random.default_rng(seed).permutation(rehearsed)[REHEARSED:]
    return table.drop(index=table.index[dropped])


def _read(table: "pd.DataFrame", card: "Card") -> "Patches":
    from models.recipes import Recipe
    from models.training import read_for

    recipe = Recipe(architecture=card.architecture, patch_px=card.patch_px)
    if card.planes is not None and card.um_per_plane is not None:
        recipe = Recipe(
            architecture=card.architecture,
            patch_px=card.patch_px,
            planes=card.planes,
            um_per_plane=card.um_per_plane,
        )
    return read_for(recipe, table, states=card.states)
