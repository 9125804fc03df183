"""The plate browser's page: the whole plate in small, a well in full, what the classifier said of every patch."""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple

import numpy as np
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from plates import metadata
from plates.counts import SCALE_FACTOR
from plates.errors import StoreError
from plates.layout.wells import row_letters, well_name
from plates.levels import projection_levels, volume_levels
from plates.ngff import well_path
from plates.patches import PATCH_PX, patch_centres
from plates.results import has_result, read_result, result_attributes
from plates.states import STATES
from plates.store import Plate

from . import words
from .overlay import SCALE_BARS
from .page import content_hash, environment, static_text
from .state_looks import state_looks
from .viewer_data import mosaic_cell

_COLUMNS = ("compound", "dose", "control", "inducer", "replicate", "cell_line")  # of the plate map
_SCRIPTS = ("zarrita.min.js", "viewer_images.js", "viewer_drawing.js", "viewer.js")
# slider ends, in stored counts: what cells, their surroundings and bright stains can have
_INDEX_RANGE, _MASS_RANGE, _LIGHT_RANGE = (13200, 14600), (0, 60000), (0, 65535)


class ViewerPage(NamedTuple):
    """HTML, and the Content-Security-Policy under which it works."""

    html: str
    policy: str


def viewer_page(plate: Plate) -> ViewerPage:
    """Make the page of a plate; it asks the server that gave it, and nobody else, for images and numbers."""
    script = "\n".join(static_text(name) for name in _SCRIPTS)
    style = static_text("report.css") + static_text("viewer.css")
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src {content_hash(script.encode())}",
            f"style-src {content_hash(style.encode())}",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    described = describe(plate)
    html = (
        environment()
        .get_template("viewer.html")
        .render(
            plate=described,
            made=_made(plate),
            # in the order of the plate: Jinja's own filter sorts by name, AA01 before B01
            stored=htmlsafe_json_dumps(described, sort_keys=False),
            policy=policy,
            script=Markup(script),
            style=Markup(style),
        )
    )
    return ViewerPage(html, f"{policy}; frame-ancestors 'none'")


def describe(plate: Plate) -> dict[str, Any]:
    """What the page must know of a plate before it asks for images, as JSON values."""
    cell = mosaic_cell(plate)
    try:
        centres = patch_centres(plate.shape_zyx[1:], voxel_um=plate.voxel_um[1:])
    except StoreError:  # a field smaller than a patch can be looked at, not classified
        centres = np.zeros(0), np.zeros(0)
    pixel_um = plate.voxel_um[1:]
    classified = result_attributes(plate.path, "probabilities")
    return {
        "name": words.plain(plate.name),
        "rows": plate.rows,
        "columns": plate.columns,
        "row_names": [row_letters(row) for row in range(plate.rows)],
        "fields": plate.fields,
        "hours": list(plate.hours),
        "shape": list(plate.shape_zyx),
        "voxel_um": list(plate.voxel_um),
        "cell": {"height": cell.height, "width": cell.width, "factor": cell.factor},
        "wells": _wells(plate),
        "states": [
            {"name": look.name, "letter": look.letter, "colour": look.colour, "ink": look.ink}
            for look in state_looks(STATES)
        ],
        "images": _images(plate),
        # where a patch's letter stands, in pixels of the field
        "patches": {
            "y": [value / pixel_um[0] for value in centres[0].tolist()],
            "x": [value / pixel_um[1] for value in centres[1].tolist()],
            "size": PATCH_PX,
        },
        "classifier": words.plain(classified.get("classifier", "")),
        "bars_um": [*SCALE_BARS, 1000, 2000, 5000],
    }


def _made(plate: Plate) -> dict[str, str]:
    """What the states come from: classifier, its hash and calibration, the plate map and its hash, the version."""
    classified, layout = (result_attributes(plate.path, name) for name in ("probabilities", "layout"))
    record = classified.get("provenance", {})
    record = json.loads(record) if isinstance(record, str) else record
    return {
        "classifier": words.plain(classified.get("classifier", "")),
        "hash": str(classified.get("classifier_sha256", "")),
        "calibration": words.plain(classified.get("calibration", ""), longest=400) or "not calibrated",
        "layout": words.plain(layout.get("source", "")),
        "layout_hash": str(layout.get("sha256", "")),
        "version": str(record.get("version", "version not recorded")),
    }


def _images(plate: Plate) -> list[dict[str, Any]]:
    """Images that a well may have: where they are, their contrast limits, and the unit of their numbers."""
    flat = [level.factor for level in projection_levels(plate.shape_zyx)]
    found = []
    for number, (kind, window) in enumerate(metadata.PROJECTIONS.items()):
        mass = kind == "dry mass"
        found.append(
            {"key": kind.replace(" ", "-"), "label": "Dry mass" if mass else f"{kind.capitalize()} projection",
             "folder": "projections", "channel": number, "factors": flat, "window": list(window),
             "range": list(_MASS_RANGE if mass else _INDEX_RANGE), "scale": SCALE_FACTOR,
             "unit": "pg/µm²" if mass else "refractive index"}
        )  # fmt: skip
    if plate.elsewhere is None and plate.shape_zyx[0] > 1:
        found.append(
            {"key": "slice", "label": "Slice of the tomogram", "folder": "tomograms", "channel": 0,
             "factors": [level.factor for level in volume_levels(plate.shape_zyx)],
             "window": list(metadata.TOMOGRAM["RI"]), "range": list(_INDEX_RANGE), "scale": SCALE_FACTOR,
             "unit": "refractive index"}
        )  # fmt: skip
    for number, stain in enumerate(plate.fluorescence):
        found.append(
            {"key": f"stain{number}", "label": f"Fluorescence: {words.plain(stain)}", "folder": "fluorescence",
             "channel": number, "factors": flat, "window": list(metadata.CAMERA), "range": list(_LIGHT_RANGE),
             "scale": 1, "unit": "camera units"}
        )  # fmt: skip
    return found


def _wells(plate: Plate) -> dict[str, dict[str, Any]]:
    """Wells that are imaged or planned, in the order of the plate: where they are, what is in them."""
    planned: dict[str, dict[str, str]] = {}
    if has_result(plate.path, "layout"):
        layout = read_result(plate.path, "layout")
        for number, name in enumerate(layout["well"].values.tolist()):
            planned[name] = _content({key: layout[key].values[number] for key in _COLUMNS if key in layout.variables})
    wells = {}
    for row in range(plate.rows):
        for column in range(plate.columns):
            name = well_name(row, column)
            if name in planned or name in plate.wells:
                wells[name] = {
                    "row": row,
                    "column": column,
                    "path": well_path(name),
                    "imaged": name in plate.wells,
                    "content": planned.get(name, {}),
                }
    return wells


def _content(row: dict[Any, Any]) -> dict[str, str]:
    """A line of the plate map in words; what is empty is left out."""
    dose = float(row.get("dose", math.nan))
    control = str(row.get("control", ""))
    said = {
        "compound": words.plain(row.get("compound", "")),
        "dose": words.concentration(dose) if math.isfinite(dose) and dose > 0 else "",
        "control": {"negative": "negative (vehicle)", "none": ""}.get(control, words.plain(control)),
        "inducer": words.plain(row.get("inducer", "")),
        "replicate": words.plain(row.get("replicate", "")),
        "cell line": words.plain(row.get("cell_line", "")),
    }
    return {key: text for key, text in said.items() if text and text != "nan"}
