"""A plate in a browser: its page, its images and its probabilities, served to this machine alone."""

from __future__ import annotations

import json
import re
import shlex
import threading
import webbrowser
from collections.abc import Callable
from pathlib import Path

from plates.errors import SettingsError
from plates.files import is_remote
from plates.layout.wells import parse_well, well_name
from plates.stopping import stop_if_wished
from plates.store import Plate, open_plate
from reports.viewer import viewer_page
from reports.viewer_data import field_facts, mosaic_row
from screening.file_server import Answer, FileServer

_LOOK_S = 1.0  # between looks whether Ctrl-C came at a moment when it could not be raised
_MOSAIC = re.compile(r"mosaic/(\d{1,6})/(\d{1,6})/(\d{1,3})")
_FIELD = re.compile(r"field/([A-Z]{1,2}\d\d)/(\d{1,6})/(\d{1,6})")


def view(
    path: Path,
    *,
    port: int = 0,
    browser: bool = True,
    at: str = "",
    volume: str = "",
    tell: Callable[[str], None] = print,
    stop: threading.Event | None = None,
) -> None:
    """Serve the plate browser of a plate until Ctrl-C; nothing is written.

    Parameters
    ----------
    path
        The plate's store of tomograms.
    port
        Of this machine; 0 takes a free one.
    browser
        Open the page in this machine's browser.
    at
        What to show first, as in the page's addresses: "well=C07&t=3&field=0".
    volume
        A well, such as "C07", whose first field at its last timepoint is shown in 3-D as well, by neuroglancer.
    tell
        Called with a line for each thing to be known.
    stop
        End when it is set, as after Ctrl-C.

    Raises
    ------
    SettingsError
        The port is taken, the plate lies in an object store, or neuroglancer is not installed.
    MissingInputError, StoreError
        There is no such plate, well or tomogram.
    """
    plate = open_plate(path)
    server = serve_plate(plate, port=port)
    try:
        address = server.address + (f"#{at.removeprefix('#')}" if at else "")
        tell(f"Plate browser of {plate.name}, for this machine: {address}")
        for line in _napari(plate):
            tell(line)
        if volume:
            from screening.volume_view import show_volume

            shown = show_volume(plate, well_name(*parse_well(volume)))
            tell(f"In 3-D: {shown}")
        tell("Ctrl-C ends it.")
        if browser and not webbrowser.open(address):
            tell("No browser could be opened here: open the address in one yourself.")
        ended = stop or threading.Event()
        while not ended.wait(_LOOK_S):
            stop_if_wished()
    except KeyboardInterrupt:
        tell("Ended.")
    finally:
        server.close()


def serve_plate(plate: Plate, *, port: int = 0) -> FileServer:
    """Serve a plate's page, images and probabilities from now on; the caller closes it.

    Raises
    ------
    SettingsError
        The port is taken, or the plate lies in an object store.
    StoreError
        The plate map's result is damaged.
    """
    if is_remote(plate.path):
        raise SettingsError(
            f"{plate.path}: the plate browser reads plates on this machine's disks or network drives. Copy the plate "
            "here, or mount the store."
        )
    viewer_page(plate)  # what is damaged is told here, and what is slow to load is loaded before it is asked for
    folders = {"projections": plate.mip_path}
    if plate.elsewhere is None:
        folders["tomograms"] = plate.path
    if plate.fluorescence:
        folders["fluorescence"] = plate.fluorescence_path
    return FileServer(folders, lambda rest: _answer(plate, rest), port=port)


def _answer(plate: Plate, rest: str) -> Answer | None:
    if rest == "":
        html, policy = viewer_page(plate)
        return Answer(html.encode(), "text/html", {"Content-Security-Policy": policy})
    if asked := _MOSAIC.fullmatch(rest):
        field, timepoint, row = (int(part) for part in asked.groups())
        if field < plate.fields and timepoint < plate.timepoints and row < plate.rows:
            return Answer(mosaic_row(plate, row, field=field, timepoint=timepoint))
    if asked := _FIELD.fullmatch(rest):
        well, field, timepoint = asked[1], int(asked[2]), int(asked[3])
        if well in plate.wells and field < plate.fields and timepoint < plate.timepoints:
            facts = field_facts(plate, well, field=field, timepoint=timepoint)
            return Answer(json.dumps(facts, allow_nan=False).encode(), "application/json")
    return None


def _napari(plate: Plate) -> list[str]:
    """The same images in napari, by the plugin that reads plates; a line each for what there is."""
    paths = [plate.mip_path] if plate.elsewhere else [plate.mip_path, plate.path]
    what = ("projections and states", "tomograms")
    return [
        f"In napari, {words}: napari --plugin napari-ome-zarr {shlex.quote(str(path.resolve()))}"
        for path, words in zip(paths, what, strict=False)
    ]
