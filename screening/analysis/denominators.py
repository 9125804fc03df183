"""Dead of what? Dead cells detach: a well's patches against those that its vehicle's wells hold."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from plates.layout.roles import is_masked, vehicle_controls, vehicles

FEWEST_VEHICLES = 3  # wells that can tell how much seeding varies

Floats = NDArray[np.float64]


def of_seeded(fractions: xr.Dataset, layout: xr.Dataset) -> xr.Dataset:
    """Express a well's dead and live patches per field as shares of what vehicle wells hold at that time.

    `death` is a fraction of the patches that still have cells: where dead cells have floated away it is too
    low, and where all have, it is not there at all. With m the patches with cells per field of a well and M
    their median over the wells of its vehicle at the same timepoint, the three shares

        death m / M  +  (1 - death) m / M  +  (1 - m / M)  =  1

    are dead and still there, live, and missing. Missing may have died and detached, not have grown, or not
    have been seeded: counts cannot tell. It is negative where a well holds more than vehicle does. A patch
    with one cell counts as one with ten, so that crowded wells lose cells before they lose patches.

    The interval of `death_of_seeded` adds, in squares, that of `death` and the scatter of m over the vehicle
    wells, which stands for how unevenly wells were seeded (MOVER, Zou and Donner 2008).

    Parameters
    ----------
    fractions
        (well, timepoint): `death`, `death_low`, `death_high`, `patches`, `fields_used`, with the `layout`'s wells.
    layout
        Group `layout`.

    Returns
    -------
    Dataset
        (well, timepoint): `death_of_seeded` with `_low`, `_high`, `live_of_seeded`, `missing_of_seeded`, and
        `vehicle_patches`, M. NaN in masked wells and where no vehicle well holds cells; the interval is NaN
        with fewer than three vehicle wells.
    """
    death, low, high = (fractions[name].transpose("well", "timepoint").values for name in _ENDS)
    patches = fractions.patches.transpose("well", "timepoint").values.astype(float)
    imaged = fractions.fields_imaged.transpose("well", "timepoint").values.astype(float)
    density = np.divide(patches, imaged, out=np.full(patches.shape, np.nan), where=imaged > 0)
    held, spread = _vehicle(density, layout)
    share = np.divide(density, held, out=np.full(density.shape, np.nan), where=held > 0)
    share[is_masked(layout)] = np.nan
    dead = np.where(density == 0, 0.0, death)  # nothing left: nothing dead is left either
    value = dead * share
    below, above = (np.abs(dead - np.where(density == 0, 0.0, end)) * share for end in (low, high))
    seeding = value * spread
    over = ("well", "timepoint")

    def named(values: Floats, text: str) -> tuple[tuple[str, str], Floats, dict[str, str]]:
        return over, values, {"units": "1", "long_name": text}

    return xr.Dataset(
        {
            "death_of_seeded": named(value, "dead patches per field, as a share of the patches in vehicle wells"),
            "death_of_seeded_low": named(np.maximum(value - np.hypot(below, seeding), 0), "its lower end"),
            "death_of_seeded_high": named(value + np.hypot(above, seeding), "its upper end"),
            "live_of_seeded": named(
                share - value, "live patches per field, as a share of the patches in vehicle wells"
            ),
            "missing_of_seeded": named(
                1 - share, "patches that vehicle wells hold and the well does not; their fate is unknown"
            ),
            "vehicle_patches": (
                over,
                held,
                {"units": "patches per field", "long_name": "median patches with cells in wells of the same vehicle"},
            ),
        },
        coords={"well": fractions.well, "timepoint": fractions.timepoint},
    )


_ENDS = ("death", "death_low", "death_high")


def _vehicle(density: Floats, layout: xr.Dataset) -> tuple[Floats, Floats]:
    """Median patches per field of each well's own vehicle wells, and 1.96 relative SD of a single well."""
    held, spread = np.full(density.shape, np.nan), np.full(density.shape, np.nan)
    if "control" not in layout:  # a map without controls
        return held, spread
    vehicle, used = vehicles(layout), ~is_masked(layout)
    for name, controls in vehicle_controls(layout).items():
        for timepoint in range(density.shape[1]):
            seen = density[controls, timepoint]
            seen = seen[np.isfinite(seen)]
            middle = float(np.median(seen)) if len(seen) else 0.0
            if middle <= 0:
                continue
            members = used & (vehicle == name)
            held[members, timepoint] = middle
            if len(seen) >= FEWEST_VEHICLES:
                # one well's own seeding, and that the median of so many wells is not exact either
                relative = seen.std(ddof=1) / middle * np.sqrt(1 + np.pi / 2 / len(seen))
                spread[members, timepoint] = 1.96 * relative
    return held, spread
