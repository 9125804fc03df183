"""Harm done to files on purpose, and the comparison of what a run made with what an undisturbed one made."""

import os
from pathlib import Path

import numpy as np
import xarray as xr

from plates.results import has_result, read_result
from plates.store import open_plate


def flip_bit(file: Path, *, byte: int, bit: int = 0) -> None:
    """Flip one bit and leave the file's time as it is, as a disk does."""
    state = file.stat()
    data = bytearray(file.read_bytes())
    data[byte] ^= 1 << bit
    file.write_bytes(bytes(data))
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))


def truncate(file: Path, size: int) -> None:
    """Cut a file short and leave its time as it is."""
    state = file.stat()
    with file.open("rb+") as handle:
        handle.truncate(size)
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))


def assert_same_plate(one: Path, other: Path) -> None:
    """Assert that two plates hold the same voxels, projections, maps of states and results, value by value."""
    first, second = open_plate(one), open_plate(other)
    assert first.wells == second.wells
    for well in first.wells:
        for timepoint in range(first.timepoints):
            place = {"field": 0, "timepoint": timepoint}
            np.testing.assert_array_equal(first.volume(well, **place), second.volume(well, **place))
            for kind in ("maximum", "mean", "dry mass"):
                np.testing.assert_array_equal(
                    first.projection(well, kind=kind, **place), second.projection(well, kind=kind, **place)
                )
            np.testing.assert_array_equal(first.classes(well, **place), second.classes(well, **place))
    assert_same_results(one, other)


def assert_same_results(one: Path, other: Path) -> None:
    """Assert that two stores hold the same results, but for when and where they were made."""
    names = sorted(part.name for part in results_of(one) if has_result(one, part.name))
    assert names == sorted(part.name for part in results_of(other) if has_result(other, part.name))
    for name in names:
        found, expected = read_result(one, name), read_result(other, name)
        for dataset in (found, expected):
            dataset.attrs.pop("provenance")
        # where acquisitions and results lie is not what they hold
        found, expected = (dataset.drop_vars("path", errors="ignore") for dataset in (found, expected))
        xr.testing.assert_identical(found, expected)


def results_of(path: Path) -> list[Path]:
    """Groups of a store of results."""
    from plates.results import results_path

    return [part for part in results_path(path).iterdir() if part.is_dir()]
