"""The classifiers at hand: listed, shown, verified and exported, as the commands need it."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from models.shelf import SHIPPED, Shelved, accuracy_of, is_calibrated, list_classifiers, read_values
from plates.errors import ClassifierError
from plates.files import gigabytes
from plates.states import STATES

if TYPE_CHECKING:
    from models.export import Exported
    from models.verification import Check

# Where classifiers lie unless somebody says otherwise; those that are there are looked through.
USUAL = (Path("classifiers"), Path("results"))
COLUMNS = (
    "name", "architecture", "states", "sees", "trained on", "calibrated", "accuracy", "sha256", "size", "folder",
)  # fmt: skip
NARROW = ("name", "states", "trained on", "accuracy", "folder")
WIDE = 160  # characters that all columns need


def list_shelf(folders: Iterable[Path] = ()) -> list[Shelved]:
    """List classifier folders; without folders the shipped demonstration and what lies in ./classifiers and ./results.

    Raises
    ------
    ClassifierError
        If a folder that was named is not there.
    """
    named = list(folders)
    return list_classifiers(named or [SHIPPED, *(place for place in USUAL if place.is_dir())])


def shelf_table(shelf: Iterable[Shelved], *, width: int = WIDE) -> Table:
    """One row a classifier: what it is, what it was made from, how right it is, and what is wrong with it.

    A table of less than 160 characters leaves out what matters less.
    """
    columns = COLUMNS if width >= WIDE else [name for name in COLUMNS if name in NARROW]
    table = Table()
    for column in columns:
        table.add_column(column, justify="right" if column == "size" else "left", overflow="fold")
    for entry in shelf:
        line = line_of(entry)
        table.add_row(*(line[column] for column in columns))
    return table


def line_of(entry: Shelved) -> dict[str, str]:
    """What `tomoscreen models list` says about one folder, by column."""
    card = entry.card
    if entry.trouble:
        blank = dict.fromkeys(("architecture", "states", "sees"), "-")
        rest = dict.fromkeys(("calibrated", "accuracy", "sha256"), "-")
        line = {"name": entry.path.name, **blank, "trained on": f"unusable: {entry.trouble}", **rest}
    else:
        line = {
            "name": card["name"],
            "architecture": card["architecture"],
            "states": "the five" if tuple(card["states"]) == STATES else ", ".join(map(str, card["states"])),
            "sees": "projections" if card.get("planes") is None else f"volumes of {card['planes']} planes",
            "trained on": str(card.get("trained_on") or "not told"),
            "calibrated": "yes" if is_calibrated(card) else "no",
            "accuracy": _accuracy(card),
            "sha256": card["weights_sha256"][:12],
        }
    return line | {"size": gigabytes(entry.size), "folder": str(entry.path)}


def show(path: Path) -> dict[str, Any]:
    """Values of a classifier's card, as `tomoscreen models show --json` prints them."""
    return read_values(path)


def card_lines(card: dict[str, Any]) -> dict[str, str]:
    """A card in words: what it is, what it sees, what it was made from and how right it is, by line."""
    lines = {
        "name": card["name"],
        "network": f"{card['architecture']}, weights {card.get('weights_dtype', 'float32')}",
        "states": ", ".join(map(str, card["states"])),
        "sees": _sees(card),
        "trained on": str(card.get("trained_on") or "not told"),
        "command": str(card.get("command") or "not told"),
        "calibration": str(card.get("calibration") or "not calibrated"),
    }
    for split, scores in card["metrics"].items():
        lines[split] = f"accuracy {_accuracy({'metrics': {'test': scores}})}" + _counts(scores)
    if uncertain := card.get("uncertain"):
        lines["uncertain"] = (
            f"below a probability of {uncertain['threshold']:.3f}, as {1 - uncertain['coverage']:.1%} of the "
            "validation patches were"
        )
    lines["weights"] = f"sha256 {card['weights_sha256']}"
    lines["made with"] = ", ".join(f"{name} {value}" for name, value in card.get("versions", {}).items())
    return lines


def verify(path: Path) -> list["Check"]:
    """Ask a classifier folder everything that `models.verification` knows to ask."""
    from models.verification import verify_classifier

    return verify_classifier(path)


def require_all(checks: Iterable["Check"], *, path: Path) -> None:
    """Raise ClassifierError, which the command leaves with, if any check is bad."""
    bad = [check.name for check in checks if not check.ok]
    if bad:
        raise ClassifierError(f"The classifier in {path} is not in order: {', '.join(bad)}. See above for what to do.")


def export(path: Path, out: Path) -> "Exported":
    """Write the classifier of a folder as ONNX (see `models.export.export_onnx`), on the CPU."""
    from models.checksums import CHECKSUMS, add_checksums
    from models.classifier import load_classifier
    from models.export import export_onnx

    exported = export_onnx(load_classifier(path, device="cpu"), out)
    if (out.parent / CHECKSUMS).is_file():  # written into a classifier's own folder
        add_checksums(out.parent, out.name)
    return exported


def _accuracy(card: dict[str, Any]) -> str:
    found = accuracy_of(card)
    if found is None:
        return "not measured"
    value, low, high = found
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} ({low:.3f} to {high:.3f})"


def _counts(scores: dict[str, Any]) -> str:
    if "patches" not in scores or "wells" not in scores:
        return ""
    return f", {scores['patches']} patches of {scores['wells']} wells"


def _sees(card: dict[str, Any]) -> str:
    text = f"{card.get('patch_px')} px of {card.get('um_per_px')} um"
    if card.get("planes") is not None:
        text = f"volumes of {card['planes']} planes of {card.get('um_per_plane')} um, {text}"
    else:
        text = f"{card.get('projection', 'maximum')} projections, {text}"
    low, high = card.get("index_window", (None, None))
    return f"{text}, {card.get('quantity', 'refractive index')} above the medium from {low} to {high}"
