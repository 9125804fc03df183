"""Whether plates may be put together: one classifier, one version, one voxel size, one unit of dose."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping

import numpy as np
import xarray as xr

_ALIKE = {
    "classifier_sha256": "classifiers",
    "resampled_from_um": "voxel sizes (um)",
    "um_per_px": "pixel sizes of patches (um)",
    "stride_px": "distances of patches (px)",
    "calibration": "calibrations",
}
_SAME_DOSES = 0.02  # of log10 dose: how well a series must lie on another, moved by a factor of 1000


def differences(plates: Mapping[str, Mapping[str, xr.Dataset]]) -> list[str]:
    """Say in which respect plates were not made alike, a sentence each; empty where they were.

    Parameters
    ----------
    plates
        Of each plate its results by name: `probabilities` tells the classifier and the voxels, `normalized` the version
        and the doses. What a plate does not hold or say is not compared.
    """
    found = []
    for key, words in _ALIKE.items():
        values = {
            name: _plain(results["probabilities"].attrs[key])
            for name, results in plates.items()
            if "probabilities" in results and key in results["probabilities"].attrs
        }
        found += _mixed(values, words)
    versions = {}
    for name, results in plates.items():
        if "normalized" in results:
            version = json.loads(results["normalized"].attrs.get("provenance", "{}")).get("version")
            if version:
                versions[name] = str(version)
    found += _mixed(versions, "versions of tomoscreen")
    return found + _units(plates)


def _mixed(values: Mapping[str, str], words: str) -> list[str]:
    counted = Counter(values.values())
    if len(counted) < 2:
        return []
    parts = []
    for value, _ in counted.most_common():
        holders = [name for name, held in values.items() if held == value]
        shown = ", ".join(holders[:3]) + (f" and {len(holders) - 3} more" if len(holders) > 3 else "")
        parts.append(f"{value[:24]} ({shown})")
    return [f"The plates have different {words}: {'; '.join(parts)}."]


def _units(plates: Mapping[str, Mapping[str, xr.Dataset]]) -> list[str]:
    """Compounds whose whole dose series lies a factor of 1000 or a million higher on one plate than on another."""
    series: dict[str, dict[str, np.ndarray]] = {}
    for name, results in plates.items():
        if "normalized" not in results:
            continue
        data = results["normalized"]
        dose = data["dose"].values.astype(float)
        used = (data["control"].values == "none") & np.isfinite(dose) & (dose > 0)
        for compound in dict.fromkeys(data["compound"].values[used]):
            own = np.unique(np.round(np.log10(dose[used & (data["compound"].values == compound)]), 3))
            series.setdefault(str(compound), {})[name] = own
    moved: dict[tuple[str, str, int], list[str]] = {}
    for compound, by_plate in series.items():
        (first, reference), *others = by_plate.items()
        for name, doses in others:
            shift = float(np.median(doses) - np.median(reference))
            power = round(shift / 3) * 3
            alike = doses.size == reference.size and doses.size > 1
            if power and alike and np.abs(doses - reference - power).max() <= _SAME_DOSES:
                moved.setdefault((first, name, power), []).append(compound)
    return [
        f"The doses of {len(names)} compounds ({', '.join(names[:3])}) on plate {name} are {10.0**power:g} times those "
        f"on plate {first}: a unit is wrong in one of the two plate maps."
        for (first, name, power), names in moved.items()
    ]


def _plain(value: object) -> str:
    if isinstance(value, np.ndarray | list | tuple):
        return " x ".join(f"{float(part):g}" for part in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
