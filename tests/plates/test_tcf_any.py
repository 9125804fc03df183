"""Any TCF file that can be thought of is read to the last voxel: random variants against their truth."""

import tempfile
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import hdf5plugin
import numpy as np
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from plates.ingest import tcf
from plates.ingest.acquisition import read_frame
from plates.ingest.tcf import open_tcf

from .tcf_files import Stored, as_arrays, as_scalars, write_file

FILTERS: list[dict[str, Any]] = [
    {},
    {"compression": "gzip", "compression_opts": 1},
    {"compression": "gzip", "compression_opts": 9, "shuffle": True},
    {**hdf5plugin.Zstd(clevel=1)},
    {**hdf5plugin.Zstd(clevel=5), "shuffle": True},
    {**hdf5plugin.Blosc(cname="zstd", shuffle=1)},
    {**hdf5plugin.Blosc(cname="lz4", shuffle=2)},
    {**hdf5plugin.Blosc2()},
    {**hdf5plugin.Bitshuffle()},
    {"compression": "lzf"},
    {"compression": "lzf", "shuffle": True},
    {"compression": "gzip", "fletcher32": True},
    {"shuffle": True},
    {"fletcher32": True},
]
INTEGERS = ["<u2", ">u2", "<u4", "<i2", "<i4", ">i4", "<u8"]
FLOATS = ["<f4", ">f4", "<f8", ">f8"]


@st.composite
def layouts(draw: st.DrawFn, axes: int) -> dict[str, Any]:
    how = draw(st.sampled_from(["contiguous", "compact", "chunked", "chunked", "chunked"]))
    if how != "chunked":
        return {"compact": True} if how == "compact" else {}
    chunks = draw(st.tuples(*[st.integers(1, 6)] * axes))
    growing = {"maxshape": (None,) * axes} if draw(st.booleans()) else {}
    return {"chunks": chunks, **growing, **draw(st.sampled_from(FILTERS))}


@st.composite
def tilings(draw: st.DrawFn, shape: tuple[int, ...]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Cuts of each axis, widened by an overlap, in any order, some left out."""
    cuts = [sorted({0, size, *draw(st.lists(st.integers(0, size), max_size=2))}) for size in shape]
    overlap = draw(st.integers(0, 2))
    boxes = [((), ())]
    for edges, size in zip(cuts, shape, strict=True):
        spans = [(max(0, a - overlap), min(size, b + overlap) - 1) for a, b in pairwise(edges)]
        boxes = [((*first, a), (*last, b)) for first, last in boxes for a, b in spans]  # type: ignore[misc]
    boxes = draw(st.permutations(boxes))
    return list(boxes[: draw(st.integers(max(1, len(boxes) - 2), len(boxes)))])


@st.composite
def images(draw: st.DrawFn, shape: tuple[int, ...]) -> Stored:
    """A tomogram or projection of any kind of number in any layout."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    tiled = draw(st.booleans())
    kind = draw(st.sampled_from(["integer", "float", "float x 1e4", "levels"]))
    event(f"{'tiles of' if tiled else 'plain'} {kind}")
    truth = rng.integers(13000, 14500, shape).astype(np.uint16)
    truth[rng.random(shape) < draw(st.sampled_from([0, 0.2]))] = 0
    attributes: dict[str, Any] = {"Time": 0.0}
    nonfinite = 0
    if kind == "levels":
        levels = rng.integers(0, 256, shape).astype(np.uint8)
        base = draw(st.integers(13000, 13400))
        truth = np.where(levels > 0, base + 10 * levels.astype(np.int64), 0).astype(np.uint16)
        attributes["RIMin"] = float(base) if draw(st.booleans()) else base / 1e4
        values: np.ndarray = levels
    elif kind == "integer":
        values = truth.astype(draw(st.sampled_from(INTEGERS)))
    else:
        scale = 1.0 if kind == "float x 1e4" else 1e4
        values = (truth / scale).astype(draw(st.sampled_from(FLOATS)))
        broken = rng.random(shape) < draw(st.sampled_from([0, 0.1]))
        values[broken] = rng.choice([np.nan, np.inf, -np.inf, 1e30, -1e30], int(broken.sum()))
        truth[broken] = 0
        nonfinite = int(broken.sum())
    image = Stored(values, truth, nonfinite, layout=draw(layouts(len(shape))), attributes=attributes)
    if tiled:
        image.tiles = draw(tilings(shape))
        image.decoys = draw(st.lists(st.sampled_from([2, 4, 8]), max_size=2))
        image.decoys_first = draw(st.booleans())
        image.digits = draw(st.sampled_from([2, 3]))
        image.spare = draw(st.integers(0, 2))
        covered = np.zeros(shape, dtype=bool)
        for first, last in image.tiles:
            covered[tuple(slice(f, e + 1) for f, e in zip(first, last, strict=True))] = True
        truth[~covered] = 0
        image.nonfinite = -1 if nonfinite else 0  # voxels of an overlap count in every tile that holds them
    elif image.layout.get("chunks") and kind == "integer" and "fletcher32" not in image.layout:
        image.written = draw(st.sampled_from([1.0, 0.5]))
        image.unfiltered = draw(st.sampled_from([0.0, 0.5]))
    return image


@st.composite
def stacks(draw: st.DrawFn, shape: tuple[int, ...]) -> Stored:
    """A fluorescence stack."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    eight_bit = draw(st.booleans())
    values = rng.integers(0, 256 if eight_bit else 65536, shape).astype(np.uint8 if eight_bit else np.uint16)
    stack = Stored(values, values, layout=draw(layouts(3)), attributes={"Time": 0.0})
    if draw(st.booleans()):
        stack.tiles = [((0, 0, 0), tuple(size - 1 for size in shape))]
        stack.decoys = (2,)
        if eight_bit and (base := draw(st.sampled_from([0, 100]))):
            stack.attributes = {"MinIntensity": float(base), "Time": 0.0}
            stack.truth = values.astype(np.uint16) + np.uint16(base)
    return stack


@st.composite
def acquisitions(draw: st.DrawFn) -> dict[str, Any]:
    shape = draw(st.tuples(st.integers(1, 7), st.integers(1, 9), st.integers(1, 9)))
    numbers = sorted(draw(st.sets(st.integers(0, 5), min_size=1, max_size=3)))
    stack_shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)))
    return {
        "frames": {number: draw(images(shape)) for number in numbers},
        "projections": {number: draw(images(shape[1:])) for number in numbers[:1]} if draw(st.booleans()) else {},
        "channels": {
            name: {number: draw(stacks(stack_shape)) for number in numbers[: draw(st.integers(1, 2))]}
            for name in draw(st.sets(st.sampled_from(["CH0", "CH1"])))
        },
        "count": draw(st.sampled_from([None, 6, 9])),
        "libver": draw(st.sampled_from(["earliest", "latest"])),
        "userblock": draw(st.sampled_from([0, 0, 512])),
        "set_attributes": draw(st.sampled_from([as_arrays, as_scalars])),
        "seed": draw(st.integers(0, 2**32 - 1)),
    }


@settings(
    max_examples=200,
    derandomize=True,
    deadline=timedelta(seconds=5),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(acquisition=acquisitions(), slab_voxels=st.integers(1, 300), threads=st.sampled_from([1, 2]))
def test_any_acquisition_is_read_to_the_last_voxel(acquisition: dict[str, Any], slab_voxels: int, threads: int) -> None:
    with tempfile.TemporaryDirectory() as folder, patch.object(tcf, "_SLAB_VOXELS", slab_voxels):
        path = write_file(Path(folder) / "any.TCF", **acquisition)
        frames, count = acquisition["frames"], acquisition["count"]
        with open_tcf(path, threads=threads) as opened:
            assert opened.frames == tuple(frames)
            assert opened.planned == (count or max(frames) + 1)
            for number, frame in frames.items():
                slabs = list(opened.slabs(number))
                assert [slab.z for slab in slabs] == list(np.cumsum([0, *(len(slab.counts) for slab in slabs[:-1])]))
                counts, nonfinite = read_frame(opened, number)
                np.testing.assert_array_equal(counts, frame.truth)
                np.testing.assert_array_equal(np.concatenate([slab.counts for slab in slabs]), counts)
                assert counts.dtype == np.uint16
                assert nonfinite == frame.nonfinite or frame.nonfinite == -1
                projection = acquisition["projections"].get(number)
                expected = projection.truth if projection else frame.truth.max(axis=0)
                np.testing.assert_array_equal(opened.projection(number), expected)
            for name, series in acquisition["channels"].items():
                assert opened.channels[name].frames == tuple(series)
                for number, stack in series.items():
                    read_back = opened.read_fluorescence(name, frame=number)
                    assert read_back.dtype == stack.truth.dtype
                    np.testing.assert_array_equal(read_back, stack.truth)
