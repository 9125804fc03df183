"""How values stored by others stand for refractive indices: CF's scale_factor, add_offset and missing values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..counts import COUNTS_PER_INDEX
from ..errors import AcquisitionError
from .acquisition import index_counts

_GARBAGE = 1e6
_INDEX_RANGE = (1.0, 3.0)  # of the median voxel
_SAMPLE = 100_000


class IndexEncoding:
    """The key to one array.

    Attributes
    ----------
    fill_is_missing
        Whether the array's fill value, as which chunks read that are not stored, means "not reconstructed".
    """

    def __init__(self, attributes: Mapping[str, Any], *, fill: Any, where: str) -> None:
        self._fill = fill
        self._scaled = "scale_factor" in attributes or "add_offset" in attributes
        try:
            self._factor = float(attributes.get("scale_factor", 1.0))
            self._offset = float(attributes.get("add_offset", 0.0))
            declared = [attributes[key] for key in ("missing_value", "_FillValue") if attributes.get(key) is not None]
            self._missing = [float(value) for value in declared]
        except (TypeError, ValueError) as error:
            raise AcquisitionError(
                f"{where}: the attributes scale_factor, add_offset, missing_value and _FillValue must be numbers "
                f"({error}). Correct them."
            ) from error
        if not (math.isfinite(self._factor) and math.isfinite(self._offset) and self._factor != 0):
            raise AcquisitionError(f"{where}: scale_factor {self._factor}, add_offset {self._offset}. Correct them.")
        if np.isnan(fill):
            self._missing.append(math.nan)
        # the store's own unit: nothing to compute
        self._plain = self._factor == 1 / COUNTS_PER_INDEX and self._offset == 0 and fill.dtype.kind in "ui"
        try:
            self.fill_is_missing = not self.counts(np.array([[[fill]]]), where=where)[0].any()
        except AcquisitionError:
            self.fill_is_missing = False

    def counts(self, block: np.ndarray, *, where: str) -> tuple[np.ndarray, int]:
        """Stored values (z, y, x) as uint16 counts with 0 for what is missing; how many were no number.

        Raises
        ------
        AcquisitionError
            Values that are no refractive index, such as those of a fluorescence channel.
        """
        counts, nonfinite = self._counts(block, where=where)
        sample = counts.reshape(-1)[:: 1 + counts.size // _SAMPLE]
        sample = sample[sample > 0]
        median = float(np.median(sample)) / COUNTS_PER_INDEX if sample.size else 1.0
        if not _INDEX_RANGE[0] <= median <= _INDEX_RANGE[1]:
            raise AcquisitionError(
                f"{where} holds values whose median would be a refractive index of {median:g}; expected the index, or "
                "the index x 10,000. Give the channel of the refractive index, or write scale_factor and add_offset "
                "into the attributes of the array."
            )
        return counts, nonfinite

    def is_fill(self, block: np.ndarray) -> bool:
        """Whether a block holds nothing but the array's fill value."""
        return bool(np.isnan(block).all() if np.isnan(self._fill) else (block == self._fill).all())

    def _counts(self, block: np.ndarray, *, where: str) -> tuple[np.ndarray, int]:
        if self._scaled and not self._plain:
            return self._scaled_counts(block, where=where)
        if block.dtype.itemsize == 1 and block.any():
            raise AcquisitionError(
                f"{where} holds 8-bit levels without scale_factor and add_offset: they say nothing about the "
                "refractive index. Write both into the attributes of the array, or give a plate of 16 bits."
            )
        missing = self._is_missing(block)
        if missing is not None:
            block = np.where(missing, block.dtype.type(0), block)
        # half precision cannot hold the index x 10,000
        return index_counts(block.astype(np.float32) if block.dtype == np.float16 else block, where=where)

    def _scaled_counts(self, block: np.ndarray, *, where: str) -> tuple[np.ndarray, int]:
        counts = np.empty(block.shape, dtype=np.uint16)
        nonfinite = 0
        for number, stored in enumerate(block):  # a slice at a time: float64 takes four times the memory
            missing = self._is_missing(stored)
            with np.errstate(invalid="ignore", over="ignore"):
                index = stored.astype(np.float64) * self._factor + self._offset
                garbage = ~(np.abs(index) < _GARBAGE)
            if missing is not None:
                garbage &= ~missing
                index[missing] = 0
            if garbage.any():
                nonfinite += int(np.count_nonzero(garbage))
                index[garbage] = 0
            counts[number] = index_counts(np.rint(index * COUNTS_PER_INDEX).astype(np.int64), where=where)[0]
        return counts, nonfinite

    def _is_missing(self, block: np.ndarray) -> np.ndarray | None:
        masks = [np.isnan(block) if math.isnan(value) else block == value for value in self._missing if value != 0]
        if self._scaled and not self._plain and 0.0 in self._missing:
            masks.append(block == 0)
        return np.logical_or.reduce(masks) if masks else None
