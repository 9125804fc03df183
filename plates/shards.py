"""Images as zarr shards, written chunk by chunk while the image passes by.

A shard is the file of one image (z, y, x): its chunks, each compressed and checksummed, then an index of them
(https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/index.html). zarr itself can only write a
shard that is whole in memory, encodes it on one core at half the speed, and does not wait for the disk; it reads
what is written here, and the tests compare the two.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any, BinaryIO

import numpy as np

from .integrity import SEAL, UNSEALED, seal
from .ngff import AXES, LABEL_AXES

KEY = "tomoscreen"  # of what is ours among a node's attributes: the seal, and in a root the plate's record

# Bitshuffle with the fastest level: slower ones gain 3 % on tomograms for twice the time.
_CODEC, _LEVEL = "zstd", 1
_ABSENT = np.uint64(2**64 - 1)


def array_document(
    shape: tuple[int, ...], *, chunk: tuple[int, int, int], dtype: str, attributes: Mapping[str, Any], together: int = 1
) -> str:
    """The sealed zarr.json of an array (t, c, z, y, x), or (t, z, y, x), whose shards hold one timepoint each.

    Parameters
    ----------
    chunk
        Of an image (z, y, x).
    together
        Channels in one shard.
    """
    channels = [together] if len(shape) == len(AXES) else []
    counts = [-(-size // step) for size, step in zip(shape[-3:], chunk, strict=True)]
    whole = [count * step for count, step in zip(counts, chunk, strict=True)]
    document = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1, *channels, *whole]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": [
            {
                "name": "sharding_indexed",
                "configuration": {
                    "chunk_shape": [1, *([1] if channels else []), *chunk],
                    "codecs": [
                        _bytes_codec(dtype),
                        {
                            "name": "blosc",
                            "configuration": {
                                "typesize": np.dtype(dtype).itemsize,
                                "cname": _CODEC,
                                "clevel": _LEVEL,
                                "shuffle": "bitshuffle",
                                "blocksize": 0,
                            },
                        },
                        {"name": "crc32c"},
                    ],
                    "index_codecs": [_bytes_codec("uint64"), {"name": "crc32c"}],
                    "index_location": "end",
                },
            }
        ],
        "attributes": with_seal(attributes),
        "dimension_names": list(AXES if channels else LABEL_AXES),
        "storage_transformers": [],
    }
    return seal(json.dumps(document, indent=1))


def with_seal(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes of a node with room for the seal of its zarr.json."""
    return {**attributes, KEY: {**attributes.get(KEY, {}), SEAL: UNSEALED}}


def chunk_shape(shape: tuple[int, int, int], *, target: tuple[int, int, int], step: int = 1) -> tuple[int, int, int]:
    """Even division of an image into chunks near the target, so that little is padding.

    Parameters
    ----------
    step
        Chunks along y and x are a multiple of it, where there are several.
    """
    edges = []
    for axis, (size, near) in enumerate(zip(shape, target, strict=True)):
        count = max(1, round(size / near))
        edge = -(-size // count)
        edges.append(edge if axis == 0 or count == 1 else -(-edge // step) * step)
    return edges[0], edges[1], edges[2]


class ShardWriter:
    """Writes one shard: chunks in any order, each once, then the index.

    Parameters
    ----------
    handle
        Where the bytes go.
    shape, chunk
        Of an image (z, y, x).
    channels
        Images in the shard.
    """

    def __init__(
        self, handle: BinaryIO, *, shape: tuple[int, int, int], chunk: tuple[int, int, int], channels: int = 1
    ) -> None:
        self._handle = handle
        self._chunk = chunk
        self._shape = shape
        grid = [-(-size // step) for size, step in zip(shape, chunk, strict=True)]
        self._index = np.full((channels, *grid, 2), _ABSENT, dtype="<u8")
        self._position = 0

    def write(self, image: np.ndarray, *, channel: int = 0) -> None:
        """Write a whole image (z, y, x)."""
        depth = self._chunk[0]
        for z in range(0, self._shape[0], depth):
            self.write_slab(z // depth, image[z : z + depth], channel=channel)

    def write_slab(self, layer: int, slab: np.ndarray, *, channel: int = 0) -> None:
        """Write all chunks of one layer of chunks, from at most a chunk's depth of the image."""
        for row, column, part in chunk_columns(slab, chunk=self._chunk):
            self.write_chunk((layer, row, column), part, channel=channel)

    def write_chunk(self, place: tuple[int, int, int], part: np.ndarray, *, channel: int = 0) -> None:
        """Write one chunk, at its place in the grid of chunks; what it lacks at the image's edge is 0."""
        compressed = _compress(part, chunk=self._chunk)
        checksum = _checksum(compressed)
        length = len(compressed) + len(checksum)
        self._index[channel, *place] = self._position, length
        self._handle.write(compressed)
        self._handle.write(checksum)
        self._position += length

    def finish(self) -> None:
        """Write the index, without which there is no shard."""
        if (self._index == _ABSENT).any():
            raise ValueError("a shard was finished before all its chunks were written")
        index = self._index.tobytes()
        self._handle.write(index + _checksum(index))


def chunk_columns(slab: np.ndarray, *, chunk: tuple[int, int, int]) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yield each chunk-wide column of a slab (z, y, x) with its row and column in the grid of chunks."""
    height, width = chunk[1:]
    for y, x in product(range(0, slab.shape[1], height), range(0, slab.shape[2], width)):
        yield y // height, x // width, slab[:, y : y + height, x : x + width]


def _compress(part: np.ndarray, *, chunk: tuple[int, int, int]) -> bytes:
    import numcodecs.blosc as blosc

    # with several threads blosc's bytes differ from run to run; so does using its shared context at all
    blosc.use_threads = False
    if part.shape != chunk:
        whole = np.zeros(chunk, dtype=part.dtype)
        whole[: part.shape[0], : part.shape[1], : part.shape[2]] = part
        part = whole
    compressed: bytes = blosc.compress(np.ascontiguousarray(part), _CODEC.encode(), _LEVEL, blosc.BITSHUFFLE, 0)
    return compressed


def _checksum(data: bytes) -> bytes:
    import google_crc32c

    return int(google_crc32c.value(data)).to_bytes(4, "little")


def _bytes_codec(dtype: str) -> dict[str, Any]:
    if np.dtype(dtype).itemsize == 1:
        return {"name": "bytes"}
    return {"name": "bytes", "configuration": {"endian": "little"}}
