"""What an acquisition says of its microscope and vessel, in the file and in those the instrument puts beside it.

All of it is optional and none is needed to read tomograms, so whatever cannot be understood is noted and left
out. Of the keys in ``config.dat`` only the names of the sections and single keys are publicly known
(tomocube-tools); a key is therefore looked for without regard to case, blanks and underscores.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from ..errors import AcquisitionError
from .hdf5 import is_group, number, optional_member, text

_MAX_BYTES = 1 << 20  # real ones have some 10 kB
_MAX_VALUE = 200  # characters
_MAX_ENTRIES = 2000

_T = TypeVar("_T")
Sections = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Instrument:
    """Microscope, software, medium and vessel of an acquisition.

    Numbers that nobody gives are NaN, texts empty, counts None.

    Attributes
    ----------
    model, serial, software, host, user, title
        Of the device and the acquisition.
    objective_na, condenser_na, magnification, wavelength_um, camera_pixel_um
        Optics. ``Info/Device`` gives the condenser's aperture where a configuration gives the objective's.
    medium, medium_index
        As entered by the user.
    sample, experiment, parent
        Kind of sample, title of the experiment, and its place in the project.
    vessel, vessel_rows, vessel_columns
        The plate, slide or dish, and its wells.
    well
        As the configuration gives it: a name, or the index of the well.
    tiles
        Section ``[TileInfo]`` of the configuration.
    configuration
        All sections of the configuration.
    notes
        What could not be understood.
    """

    model: str = ""
    serial: str = ""
    software: str = ""
    host: str = ""
    user: str = ""
    title: str = ""
    objective_na: float = math.nan
    condenser_na: float = math.nan
    magnification: float = math.nan
    wavelength_um: float = math.nan
    camera_pixel_um: float = math.nan
    medium: str = ""
    medium_index: float = math.nan
    sample: str = ""
    experiment: str = ""
    parent: str = ""
    vessel: str = ""
    vessel_rows: int | None = None
    vessel_columns: int | None = None
    well: str = ""
    tiles: Mapping[str, str] = field(default_factory=dict)
    configuration: Sections = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """What is known, ready for JSON; what is not known is left out."""
        known: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if value is None or value in ("", (), {}) or (isinstance(value, float) and not math.isfinite(value)):
                continue
            known[item.name] = list(value) if isinstance(value, tuple) else value
        return known


def read_instrument(file: Any, *, path: Path) -> Instrument:
    """Gather it from an open TCF file and from ``config.dat``, ``.experiment``, ``.vessel`` and ``.parent`` beside it.

    What lies in the file goes before what lies beside it, which is used only where the folder holds this one
    acquisition.
    """
    notes: list[str] = []
    beside = _texts_beside(path, notes=notes)
    config = _sections(_embedded(file, "Config", notes=notes) or beside.get("config.dat", ""))
    experiment = _json(_embedded(file, "Experiment", notes=notes) or beside.get(".experiment", ""), "experiment", notes)
    vessel = _json(beside.get(".vessel", ""), "vessel", notes)

    def root(name: str) -> str:
        return _lenient(notes, name, lambda: text(file, name), "")

    def device(name: str) -> float:
        def read() -> float:
            node = optional_member(file, "Info", "Device")
            return math.nan if node is None else number(node, name)

        return _lenient(notes, f"Info/Device {name}", read, math.nan)

    return Instrument(
        model=root("DeviceModelType") or _entry(config, "DeviceInfo", "devicemodeltype", "model"),
        serial=root("DeviceSerial") or _entry(config, "DeviceInfo", "deviceserial", "serial"),
        software=root("DeviceSoftwareVersion") or root("SoftwareVersion"),
        host=root("DeviceHost"),
        user=root("UserID") or _entry(config, "JobInfo", "userid"),
        title=root("Title") or _entry(config, "JobInfo", "title"),
        objective_na=_value(_entry(config, "DeviceInfo", "objectivena")),
        condenser_na=_first(_value(_entry(config, "DeviceInfo", "condenserna")), device("NA")),
        magnification=_first(device("Magnification"), _value(_entry(config, "DeviceInfo", "magnification"))),
        wavelength_um=_first(device("Wavelength"), _value(_entry(config, "DeviceInfo", "wavelength"))),
        camera_pixel_um=_value(_entry(config, "DeviceInfo", "pixelsizemicrometer", "pixelsize")),
        medium=_string(_within(experiment, "medium", "mediumName")),
        medium_index=_index(
            _first(
                device("RI"),
                _value(_entry(config, "DeviceInfo", "mediumri")),
                _real(_within(experiment, "medium", "mediumRI")),
            )
        ),
        sample=_string(_within(experiment, "sampleType")),
        experiment=_string(_within(experiment, "experimentTitle") or _within(experiment, "title")),
        parent=beside.get(".parent", "").strip()[:_MAX_VALUE],
        vessel=_string(
            _within(vessel, "vessel", "name")
            or _within(vessel, "vessel", "model")
            or _within(experiment, "vesselModel")
        ),
        vessel_rows=_count(_within(vessel, "well", "rows")),
        vessel_columns=_count(_within(vessel, "well", "columns")),
        well=_entry(config, "AcquisitionPosition", "well", "wellindex"),
        tiles=config.get("TileInfo", {}),
        configuration=config,
        notes=tuple(notes),
    )


def _texts_beside(path: Path, *, notes: list[str]) -> dict[str, str]:
    """Files that the instrument puts into an acquisition's folder; links are not followed."""
    found: dict[str, str] = {}
    for name in ("config.dat", ".experiment", ".vessel", ".parent"):
        sidecar = path.with_name(name)
        try:
            if not sidecar.exists():
                continue
            if sidecar.is_symlink() or not sidecar.is_file() or sidecar.stat().st_size > _MAX_BYTES:
                notes.append(f"{name} beside the file is no small plain file")
                continue
            found[name] = _decoded(sidecar.read_bytes())
        except OSError as error:
            notes.append(f"{name} beside the file cannot be read: {error}")
    if found and sum(file.suffix.lower() == ".tcf" for file in path.parent.iterdir()) > 1:
        notes.append(f"{', '.join(found)} may belong to another acquisition in this folder")
        return {}
    return found


def _embedded(file: Any, name: str, *, notes: list[str]) -> str:
    """Text kept as bytes under ``Info/MetaData/RawData``."""
    place = f"Info/MetaData/RawData/{name}"

    def read() -> str:
        data = optional_member(file, *place.split("/"))
        if data is None:
            return ""
        if is_group(data) or data.dtype.itemsize != 1 or data.size > _MAX_BYTES:
            notes.append(f"{place} is no short text")
            return ""
        return _decoded(data[()].tobytes())

    return _lenient(notes, place, read, "")


def _decoded(data: bytes) -> str:
    """UTF-8, or the Korean code page of the instrument's computer."""
    for encoding in ("utf-8-sig", "cp949"):
        try:
            return data.rstrip(b"\0").decode(encoding)
        except UnicodeDecodeError:
            continue
    return data.decode("latin-1")


def _sections(content: str) -> dict[str, dict[str, str]]:
    """Sections of an INI file; lines that are none are left out, as no strict parser would."""
    sections: dict[str, dict[str, str]] = {}
    current: dict[str, str] = {}
    for line in content.splitlines()[:_MAX_ENTRIES]:
        line = line.strip()
        if match := re.fullmatch(r"\[([^\[\]]{1,100})\]", line):
            current = sections.setdefault(match[1].strip(), {})
        elif "=" in line and line[0] not in ";#" and line.isprintable():
            key, value = line.split("=", 1)
            current[key.strip()[:_MAX_VALUE]] = value.strip().strip('"')[:_MAX_VALUE]
    return sections


def _json(content: str, what: str, notes: list[str]) -> Any:
    if not content.strip("\0 \r\n\t"):
        return {}
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        notes.append(f"the description of the {what} is no JSON: {error}")
        return {}


def _entry(config: Sections, section: str, *keys: str) -> str:
    for wanted in keys:
        for key, value in config.get(section, {}).items():
            if re.sub(r"[^a-z0-9]", "", key.lower()) == wanted:
                return value
    return ""


def _lenient(notes: list[str], what: str, read: Callable[[], _T], default: _T) -> _T:
    """What can be read, else a note: nothing here may stop the reading of tomograms."""
    try:
        return read()
    except (AcquisitionError, OSError, RuntimeError, ValueError, TypeError, KeyError) as error:
        notes.append(f"{what} cannot be read: {error}")
        return default


def _within(tree: Any, *names: str) -> Any:
    for name in names:
        tree = tree.get(name) if isinstance(tree, dict) else None
    return tree


def _string(value: Any) -> str:
    return value.strip()[:_MAX_VALUE] if isinstance(value, str) else ""


def _real(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and abs(value) < 1e9 else math.nan


def _value(content: str) -> float:
    try:
        return _real(float(content))
    except ValueError:
        return math.nan


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1000 else None


def _first(*values: float) -> float:
    return next((value for value in values if math.isfinite(value)), math.nan)


def _index(value: float) -> float:
    return value / 1e4 if value > 100 else value
