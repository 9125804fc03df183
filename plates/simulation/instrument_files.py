"""What the acquisition software says of microscope and vessel: inside a TCF file, and in the files beside it.

Sections of ``config.dat`` and keys of the JSON files are those listed in the public description of
tomocube-tools; most keys of the sections are not public and are made up in the same manner.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

_VESSEL = "simulated plate"


@dataclass(frozen=True)
class Registration:
    """Where the instrument believes the fluorescence lies relative to the tomogram."""

    rotation_rad: float = 0.0
    scale: float = 1.0
    translation_um: tuple[float, float] = (0.0, 0.0)  # x, y


@dataclass(frozen=True)
class Conditions:
    """Conditions of an acquisition.

    Attributes
    ----------
    well
        As the user names it, such as ``"B03"``.
    position_mm
        Stage position (x, y, z).
    tiles_yx
        Tiles stitched along y and x.
    rows, columns
        Wells of the vessel.
    """

    title: str
    user: str
    well: str
    frames: int
    position_mm: tuple[float, float, float]
    tiles_yx: tuple[int, int]
    magnification: float
    condenser_na: float
    medium_index: float
    device_serial: str
    rows: int = 8
    columns: int = 12

    def configuration(self) -> str:
        """``config.dat``."""
        x, y, z = self.position_mm
        return (
            f"[JobInfo]\nTitle={self.title}\nUser_ID={self.user}\n\n"
            f"[AcquisitionCount]\nHT_3D={self.frames}\n\n"
            f"[AcquisitionPosition]\nWell={self.well}\nX={x}\nY={y}\nZ={z}\n\n"
            f"[TileInfo]\nTilesY={self.tiles_yx[0]}\nTilesX={self.tiles_yx[1]}\n\n"
            f"[DeviceInfo]\nPixel_Size_Micrometer=5.48\nMagnification={self.magnification:g}\nObjective_NA=0.95\n"
            f"Condenser_NA={self.condenser_na:g}\nMedium_RI={self.medium_index:g}\nDevice_Serial={self.device_serial}\n"
        )

    def experiment(self) -> str:
        """``.experiment``."""
        described = {
            "experimentTitle": self.title,
            "medium": {"mediumName": "simulated medium", "mediumRI": self.medium_index},
            "sampleType": "Cell",
            "vesselModel": _VESSEL,
        }
        return json.dumps(described, indent=4, sort_keys=True)

    def vessel(self) -> str:
        """``.vessel``."""
        described = {
            "vessel": {"NA": self.condenser_na, "model": _VESSEL, "name": _VESSEL},
            "well": {"columns": self.columns, "rows": self.rows},
        }
        return json.dumps(described, indent=4, sort_keys=True)


def write_beside(folder: Path, conditions: Conditions) -> None:
    """Write ``config.dat``, ``.experiment``, ``.vessel`` and ``.parent`` into an acquisition's folder."""
    texts = {
        "config.dat": conditions.configuration(),
        ".experiment": conditions.experiment(),
        ".vessel": conditions.vessel(),
        ".parent": f"simulation/{conditions.title}",
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def write_device(
    file: Any,
    *,
    medium_index: float,
    magnification: float,
    condenser_na: float,
    wavelength_um: float,
    registration: Registration,
) -> None:
    """Write the optics, and where fluorescence lies, into an open file."""
    set_attributes(
        file.create_group("Info/Device"),
        Magnification=magnification,
        NA=condenser_na,
        RI=medium_index,
        Rawsize=0,
        Iteration=0,
        Wavelength=wavelength_um,
    )
    set_attributes(file.create_group("Info/Imaging"), CameraGain=0.0, CameraShutter=0.0)
    set_attributes(
        file.create_group("Info/MetaData/FL/Registration"),
        Rotation=registration.rotation_rad,
        Scale=registration.scale,
        TranslationX=registration.translation_um[0],
        TranslationY=registration.translation_um[1],
    )


def write_configuration(file: Any, conditions: Conditions) -> None:
    """Write ``config.dat`` and ``.experiment`` into an open file, as bytes."""
    raw = file.create_group("Info/MetaData/RawData")
    for name, text in (("Config", conditions.configuration()), ("Experiment", conditions.experiment())):
        raw.create_dataset(name, data=np.frombuffer(text.encode(), dtype=np.uint8), track_times=False)


def set_attributes(node: Any, **values: str | float | int) -> None:
    """Every attribute is an array of length one; strings are fixed-length bytes."""
    for name, value in values.items():
        if isinstance(value, str):
            node.attrs[name] = np.array([value.encode() or b"\0"])
        elif isinstance(value, int | np.integer):
            node.attrs[name] = np.array([value], dtype=np.int64)
        else:
            node.attrs[name] = np.array([value], dtype=np.float64)
