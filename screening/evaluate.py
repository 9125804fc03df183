"""Judge a classifier on annotated patches: choose the wells it has not seen, score them, say what was found."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from plates.errors import SettingsError
from plates.files import write_durable

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from models.classifier import Card
    from models.datasets import Patches

PAGE = "evaluation.html"
Split = Literal["test", "validation", "train", "all"]


def evaluate_classifier(
    classifier: Path,
    annotations: Path,
    *,
    out: Path,
    split: Split = "test",
    device: str = "auto",
    seed: int = 0,
    open_plate: Callable[[Path], Any] | None = None,
    medium_of: Callable[[Path], Callable[[str, int, int], float]] | None = None,
    progress: Callable[[int, int], None] | None = None,
    warn: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Score a classifier on annotated patches and write the record (see `models.evaluation`) and its page.

    Parameters
    ----------
    classifier
        Its folder; any states, projections or volumes.
    annotations
        Table (CSV) as `models.annotations.read_annotations` reads it, with the classifier's states; or
        settings (TOML) of an image set.
    out
        Folder to make. Beside the record and the page it holds small pictures of the worst errors, `error-<row>.png`:
        the patch in grey, and again with what spoke for the call.
    split
        Which patches: those of a split, or "all". Splits are those of the table's column `split`. Where it
        has none they are those on the card: "test" is then every well that the classifier was neither
        trained nor chosen on.
    device
        "auto", "cpu", "cuda" or "mps".
    seed
        Of the resampling of wells.
    open_plate, medium_of
        As in `models.datasets.read_patches`.
    progress
        Called with (patches read, patches in all).
    warn
        Called with one sentence for each way in which the state could be told without looking at a cell.

    Returns
    -------
    record
        What evaluation.json holds.

    Raises
    ------
    SettingsError
        If the table cannot be read, no patch is left, or `out` exists.
    ClassifierError
        If the classifier cannot be loaded.
    """
    from models.checksums import write_checksums
    from models.classifier import load_classifier
    from models.confounding import check_confounding
    from models.evaluation import refuse_record, write_evaluation
    from models.explanation import error_pictures
    from reports.classifier import MOST_PICTURES, picture_file, write_classifier_report

    refuse_record(out)
    loaded = load_classifier(classifier, device=device)
    if annotations.suffix == ".toml":
        patches, text = _image_set(loaded.card, annotations, split)
        table = None
    else:
        table, text = _table(loaded.card, annotations, split)
        for finding in check_confounding(table, seed=seed):
            if warn is not None and finding.severity == "warning":
                warn(f"warning: {finding.what} {finding.remedy}")
        patches = _read(loaded.card, table, open_plate=open_plate, medium_of=medium_of, progress=progress)
    record = write_evaluation(
        loaded, patches, out=out, table=table, folder=classifier, text=f"{annotations.name}: {text}", seed=seed
    )
    # the record is whole now; with the pictures beside it the page can be drawn again without classifier and plates
    worst = [error["row"] for error in record["errors"][:MOST_PICTURES]]
    for row, picture in (error_pictures(loaded, patches, worst) if worst else {}).items():
        write_durable(out / picture_file(row), picture)
    write_classifier_report(out, out=out / PAGE)
    write_checksums(out)
    return record


def summary(record: Mapping[str, Any]) -> list[str]:
    """The record in lines for a terminal: warnings first, then scores, states, confidence and strangeness."""
    scores, states = record["scores"], record["classifier"]["states"]
    width = max(len(state) for state in states)
    calibration = record["calibration"]
    lines = [*warnings_of(record)]
    data = record["data"]
    lines.append(f"{record['classifier']['name']} on {data['text']}")
    counts = ", ".join(
        _count(data[name], one) for name, one in (("patches", "patch"), ("wells", "well"), ("plates", "plate"))
    )
    lines.append(f"{counts}; 95 % intervals over wells in brackets")
    lines += [f"{name:20} {_share(scores[name.replace(' ', '_')])}" for name in ("accuracy", "balanced accuracy")]
    lines.append(f"{'':{width}}  {'recall':22} {'precision':22} {'AUC':22}".rstrip())
    for state in states:
        cells = (_share(scores[name][state]) for name in ("recall", "precision", "auc"))
        lines.append(f"{state:{width}}  {' '.join(f'{cell:22}' for cell in cells)}".rstrip())
    before, after = calibration["before"], calibration["after"]
    lines.append(
        f"calibration error    {after['ece']:.3f} ({before['ece']:.3f} before the temperature; "
        f"{after['ece_by_chance']['mean']:.3f} is chance alone)"
    )
    kept = record["abstention"]
    if kept["error_of_kept"] is not None:
        lines.append(
            f"uncertain            below {kept['threshold']:.3f}: {1 - kept['coverage']:.1%} of the patches; error "
            f"{kept['error_of_all']:.2%} of all, {kept['error_of_kept']:.2%} of the others"
        )
    if record["outliers"] is not None:
        share, expected = record["outliers"]["share_above"], record["outliers"]["expected_share"]
        odd = "; UNLIKE THE TRAINING DATA" if record["outliers"]["flagged"] else ""
        lines.append(f"outliers             {share:.1%} of the patches ({expected:.0%} expected){odd}")
    return lines


def warnings_of(record: Mapping[str, Any]) -> list[str]:
    """Why the numbers of a record may be too good."""
    known, wells = record["data"]["known_wells"], record["data"]["wells"]
    found = []
    if not known:
        found.append("warning: the classifier's card does not name its training wells; these may be among them.")
    for split, what in (("train", "trained"), ("validation", "chosen and calibrated")):
        if known.get(split):
            found.append(
                f"warning: the classifier was {what} on {known[split]} of these {wells} wells; the scores flatter it."
            )
    if known and record["data"]["known_plates"]:
        found.append(f"note: it was trained on wells of {_of_plates(record['data'])}; on a new plate it may do worse.")
    if record["data"]["plates"] == 1:
        found.append("note: all wells are of one plate; the intervals know nothing of other plates.")
    return found


def _of_plates(data: Mapping[str, Any]) -> str:
    known, plates = data["known_plates"], data["plates"]
    if plates == 1:
        return "this plate"
    return f"all {plates} plates" if known == plates else f"{known} of these {plates} plates"


def _image_set(card: "Card", settings: Path, split: Split) -> tuple["Patches", str]:
    from models.image_sets import read_image_set

    patches = read_image_set(settings)
    if patches.quantity != card.quantity:
        raise SettingsError(
            f"{settings} holds images of {patches.quantity}, but {card.name} was trained on {card.quantity}. "
            "Give a classifier that was trained on such images."
        )
    keep, text = _chosen(card, patches.group, None, split, where=settings)
    return patches.take(keep.nonzero()[0]), text


def _table(card: "Card", annotations: Path, split: Split) -> tuple["pd.DataFrame", str]:
    from models.annotations import read_annotations
    from models.splits import well_groups

    table = read_annotations(annotations, states=card.states)
    own = table["split"].to_numpy(dtype=str) if "split" in table else None
    keep, text = _chosen(card, well_groups(table), own, split, where=annotations)
    return table[keep].reset_index(drop=True), text


def _read(card: "Card", table: "pd.DataFrame", **how: Any) -> "Patches":
    from models.datasets import read_patches
    from models.volumes import read_volumes

    if card.planes is None:
        return read_patches(table, patch_px=card.patch_px, states=card.states, **how)
    if card.um_per_plane is None:
        raise SettingsError(f"The card of {card.name} does not say how far its planes lie apart. Train it again.")
    return read_volumes(
        table,
        planes=card.planes,
        um_per_plane=card.um_per_plane,
        patch_px=card.patch_px,
        states=card.states,
        **how,
    )


def _chosen(
    card: "Card", groups: "npt.NDArray[np.str_]", own: "npt.NDArray[np.str_] | None", split: Split, *, where: Path
) -> tuple["npt.NDArray[np.bool_]", str]:
    """Which patches are judged, and how they were chosen, in words."""
    import numpy as np

    if split == "all":
        return np.ones(len(groups), dtype=bool), "all patches"
    if own is not None:
        keep, text = own == split, f"the split {split!r} of the table"
    else:
        names = np.array([Path(group).name for group in groups.tolist()])
        seen = {name: np.isin(names, list(wells)) for name, wells in card.wells.items()}
        nothing = np.zeros(len(groups), dtype=bool)
        if split == "test":
            keep, text = ~(seen.get("train", nothing) | seen.get("validation", nothing)), "wells it has not seen"
        else:
            keep, text = seen.get(split, nothing), f"the {split} wells of its card"
    if not keep.any():
        raise SettingsError(
            f"{where}: no patch is left to judge ({text}). Expected at least one. Annotate other wells, or give "
            "--split all to score wells that were trained on, which flatters the classifier."
        )
    return keep, text


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}{'es' if what.endswith('ch') else 's'}"


def _share(entry: Mapping[str, float | None]) -> str:
    value, low, high = entry["value"], entry["low"], entry["high"]
    if value is None:
        return "-"
    return f"{value:.4f}" + ("" if low is None or high is None else f" ({low:.3f} to {high:.3f})")
