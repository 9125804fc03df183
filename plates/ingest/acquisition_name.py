"""What a file name says: experiment, well and position, read from both ends.

The acquisition software writes ``YYMMDD.HHMMSS.<experiment>.<NNN>.<group>.<well>.<suffix>.TCF``. The
experiment may hold dots and spaces, so a name is read from both ends. The suffix is ``Snnn`` (snapshot),
``TnnnPnn`` (position nn of time lapse nnn, all frames in one file) or ``TPnn`` (one of a series of
single-frame files). Its TIFF exports add what they hold: ``<acquisition>_HT3D_0.00.TIFF``,
``<acquisition>_FL3D_CH0_0.00.TIFF``, ``<acquisition>_RI Tomogram.tiff`` (HT-2H).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from ..errors import AcquisitionError

Kind = Literal["snapshot", "time lapse", "single frames"]
Content = Literal["tomogram", "fluorescence", "projection"]

_SUFFIXES: dict[Kind, re.Pattern[str]] = {
    "snapshot": re.compile(r"S(?P<position>\d+)"),
    "time lapse": re.compile(r"T(?P<series>\d+)P(?P<position>\d+)"),
    "single frames": re.compile(r"TP(?P<order>\d+)"),
}
_NAME = re.compile(
    r"(?P<date>\d{6})\.(?P<time>\d{6})\.(?P<experiment>.+)\.(?P<number>\d+)\.(?P<group>[^.]*)"
    r"\.(?P<well>[A-Za-z]{1,2}\d{1,2})\.(?P<suffix>[A-Za-z0-9]+)",
    flags=re.DOTALL,
)
_ENDING = re.compile(r"\.(tcf|ome\.tiff?|tiff?|ome\.zarr|zarr)$", re.IGNORECASE)
_HT_X1_EXPORT = re.compile(
    r"(?P<stem>.+)_(?P<kind>HT3D|FL3D|HT2D|FL2D)(?:_CH(?P<channel>\d+))?_(?P<frame>(?!CH)[^_]+)",
    flags=re.IGNORECASE | re.DOTALL,
)
_HT_2H_EXPORT = re.compile(r"(?P<stem>.+)_(?P<kind>RI Tomogram|RI MIP|Brightfield|Phase)", re.IGNORECASE | re.DOTALL)
_CONTENTS: dict[str, Content] = {"HT3D": "tomogram", "RI TOMOGRAM": "tomogram", "FL3D": "fluorescence"}


@dataclass(frozen=True)
class AcquisitionName:
    """What a file name says.

    Attributes
    ----------
    recorded
        Local start of the acquisition.
    experiment, number, group
        Experiment, number of the job in it, and its group (usually the treatment).
    well
        ``"A01"``.
    kind
        What the suffix says the file is.
    position
        Number of the position in the well; 0 for single-frame files, whose names give none.
    order
        Number in the series of single-frame files; 0 for the others.
    """

    recorded: datetime
    experiment: str
    number: int
    group: str
    well: str
    kind: Kind
    position: int
    order: int


@dataclass(frozen=True)
class Export:
    """What the name of an exported TIFF says.

    Attributes
    ----------
    stem
        Name of the acquisition.
    content
        What is in the file.
    kind
        The word for it in the name, such as ``"HT3D"``.
    channel
        ``"CH0"``, ...; empty for tomograms.
    frame
        What follows, such as ``"0.00"``; nobody says what it counts.
    """

    stem: str
    content: Content
    kind: str
    channel: str
    frame: str


def parse_name(path: Path) -> AcquisitionName:
    """Read a file name from both ends.

    Raises
    ------
    AcquisitionError
        It is not a name that the acquisition software gives.
    """
    match = _NAME.fullmatch(stem(path))
    if match is not None:
        for kind, pattern in _SUFFIXES.items():
            suffix = pattern.fullmatch(match["suffix"].upper())
            if suffix is None:
                continue
            numbers = suffix.groupdict()
            try:
                return AcquisitionName(
                    recorded=datetime.strptime(match["date"] + match["time"], "%y%m%d%H%M%S"),
                    experiment=match["experiment"],
                    number=int(match["number"]),
                    group=match["group"],
                    well=well_name(match["well"]),
                    kind=kind,
                    position=int(numbers.get("position", 0)),
                    order=int(numbers.get("order", 0)),
                )
            except ValueError:
                break
    raise AcquisitionError(
        f"{path}: the name does not say which well this is. Expected "
        "YYMMDD.HHMMSS.<experiment>.<NNN>.<group>.<well>.<suffix>.TCF (or .tiff) with a suffix such as S001, "
        "T001P02 or TP03; rename it, or list it in a manifest (CSV: path, well, field, timepoint)."
    )


def stem(path: Path) -> str:
    """Name of the acquisition: without ending, and without what an export adds."""
    export = parse_export(path)
    return export.stem if export is not None else _ENDING.sub("", path.name)


def parse_export(path: Path) -> Export | None:
    """What an exported TIFF is by its name; None for any other name."""
    if path.suffix.lower() not in (".tif", ".tiff"):
        return None
    bare = _ENDING.sub("", path.name)
    match = _HT_X1_EXPORT.fullmatch(bare) or _HT_2H_EXPORT.fullmatch(bare)
    if match is None:
        return None
    found = match.groupdict()
    return Export(
        stem=match["stem"],
        content=_CONTENTS.get(match["kind"].upper(), "projection"),
        kind=match["kind"],
        channel=f"CH{int(found['channel'])}" if found.get("channel") else "",
        frame=found.get("frame") or "",
    )


def well_name(text: str) -> str:
    """``"a1"`` -> ``"A01"``; ValueError for what names no well."""
    match = re.fullmatch(r"([A-Za-z]{1,2})0*([1-9]\d?)", text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a well")
    return f"{match[1].upper()}{int(match[2]):02d}"
