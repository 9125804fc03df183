"""One tomogram in 3-D: neuroglancer, an optional extra, serves it to this machine alone."""

from __future__ import annotations

from typing import Any

from plates.counts import SCALE_FACTOR
from plates.errors import SettingsError
from plates.metadata import TOMOGRAM
from plates.store import Plate

_SHADER = "#uicontrol invlerp normalized(range=[{low}, {high}])\nvoid main() {{ emitGrayscale(normalized()); }}"


def show_volume(plate: Plate, well: str) -> Any:
    """Serve the first field of a well at its last timepoint.

    Returns
    -------
    neuroglancer.Viewer
        As text it is the address; it is served as long as somebody holds it.

    Raises
    ------
    SettingsError
        neuroglancer is not installed.
    StoreError
        There is no such tomogram.
    """
    try:
        import neuroglancer  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise SettingsError(
            "neuroglancer, which shows tomograms in 3-D, is not installed. Install it beside tomoscreen with "
            "`pip install 'tomoscreen[neuroglancer]'`, or leave --volume out."
        ) from error
    last = max(
        (
            time
            for time in range(plate.timepoints)
            if well in plate.wells and plate.has_field(well, field=0, timepoint=time)
        ),
        default=plate.timepoints - 1,
    )
    tomogram = plate.volume(well, field=0, timepoint=last)
    neuroglancer.set_server_bind_address("127.0.0.1")
    viewer = neuroglancer.Viewer()
    space = neuroglancer.CoordinateSpace(names=["z", "y", "x"], units="um", scales=list(plate.voxel_um))
    low, high = TOMOGRAM["RI"]
    with viewer.txn() as state:
        state.dimensions = space
        state.layers["refractive index"] = neuroglancer.ImageLayer(
            source=neuroglancer.LocalVolume(tomogram, dimensions=space), shader=_SHADER.format(low=low, high=high)
        )
        state.display_dimensions = ["x", "y", "z"]
        state.layout = "4panel"
        state.title = f"{plate.name} {well}, {plate.hours[last]:g} h; index x {1 / SCALE_FACTOR:.0f}"
    return viewer
