"""Patches as tensors, cut and normalised batch by batch; for training, changed as a microscope could change them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from plates.counts import COUNTS_PER_INDEX

from .datasets import MARGIN_PX, Patches


@dataclass(frozen=True)
class Augmentation:
    """How much a patch may change: none of it changes its state.

    `noise` is the largest standard deviation of white noise, `offset` that of the medium's index, both in
    units of refractive index; `focus` is the largest share of a blur of three pixels that is mixed in.
    Contrast stays: refractive index is a measurement.
    """

    noise: float = 3e-4
    offset: float = 4e-4
    focus: float = 0.0


def class_weights(truth: npt.NDArray[np.int64], *, states: int) -> npt.NDArray[np.float32]:
    """Weight of each state so that all count alike, 1 on average over the patches; 0 for an absent state."""
    counts = np.bincount(truth, minlength=states)
    present = int((counts > 0).sum())
    return np.where(counts > 0, len(truth) / (np.maximum(counts, 1) * present), 0.0).astype(np.float32)


class Batches:
    """Patches or volumes as 16-bit counts, in memory or in a file, cut and turned to index batch by batch."""

    def __init__(self, patches: Patches, *, patch_px: int) -> None:
        # torch has few operations for uint16; an index below 3.27 fits int16 with the same bits
        self.counts = torch.from_numpy(np.asarray(patches.counts).view(np.int16))
        self.corner = torch.from_numpy(patches.corner)
        self.medium = torch.from_numpy(patches.medium_index)
        self.truth = torch.from_numpy(patches.truth)
        self.patch_px = patch_px

    def plain(self, batch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """All patches in order, as (index relative to the medium (n, [z,] y, x), truth (n,))."""
        for start in range(0, len(self.truth), batch):
            chosen = torch.arange(start, min(start + batch, len(self.truth)))
            axis = torch.arange(self.patch_px)
            corner = self.corner[chosen]
            yield self._cut(chosen, corner[:, :1] + axis, corner[:, 1:] + axis), self.truth[chosen]

    def augmented(
        self, batch: int, *, generator: torch.Generator, change: Augmentation | None = None
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """All patches once in random order, each changed in ways that leave its state as it is.

        Eight turns and mirrorings in the plane (never along z: gravity and the missing cone have a
        direction), whole-pixel shifts within the read context, a shift by one plane in a volume, and what
        `change` says. The last batch is filled with patches drawn again, so that all have one size.
        """
        count = len(self.truth)
        order = torch.randperm(count, generator=generator)
        padding = -count % min(batch, count)
        order = torch.cat([order, order[torch.randint(count, (padding,), generator=generator)]])
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            yield self._augment(chosen, generator, change or Augmentation()), self.truth[chosen]

    def _augment(self, chosen: torch.Tensor, generator: torch.Generator, change: Augmentation) -> torch.Tensor:
        number, patch = len(chosen), self.patch_px
        room = self.counts.shape[-1] - patch
        shift = torch.randint(-MARGIN_PX, MARGIN_PX + 1, (number, 2), generator=generator)
        corner = (self.corner[chosen] + shift).clamp(0, room)
        axis = torch.arange(patch)
        flips = torch.randint(2, (number, 3, 1), generator=generator, dtype=torch.bool)
        rows = corner[:, :1] + torch.where(flips[:, 0], axis.flip(0), axis)
        columns = corner[:, 1:] + torch.where(flips[:, 1], axis.flip(0), axis)
        planes = None
        if self.counts.ndim == 4:
            depth = self.counts.shape[1]
            planes = torch.arange(depth) + torch.randint(-1, 2, (number, 1), generator=generator)
            planes = planes.clamp(0, depth - 1)
        index = self._cut(chosen, rows, columns, planes)
        each = (number, *[1] * (index.ndim - 1))
        index = torch.where(flips[:, 2].view(each), index.transpose(-1, -2), index)
        # one array of noise for the batch, scaled per patch
        noise = torch.randn(index.shape, generator=generator)
        index = index.addcmul_(noise, change.noise * torch.rand(each, generator=generator))
        if change.focus > 0:
            stack = index if index.ndim == 4 else index[:, None]
            soft = nn.functional.avg_pool2d(stack, 3, stride=1, padding=1, count_include_pad=False)
            share = change.focus * torch.rand(each, generator=generator)
            index = index + share * (soft.view(index.shape) - index)
        return index.add_(change.offset * torch.randn(each, generator=generator))

    def _cut(
        self, chosen: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, planes: torch.Tensor | None = None
    ) -> torch.Tensor:
        if self.counts.ndim == 3:
            counts = self.counts[chosen[:, None, None], rows[:, :, None], columns[:, None, :]]
        else:
            if planes is None:
                planes = torch.arange(self.counts.shape[1]).expand(len(chosen), -1)
            where = chosen[:, None, None, None], planes[:, :, None, None]
            counts = self.counts[(*where, rows[:, None, :, None], columns[:, None, None, :])]
        medium = self.medium[chosen].view(-1, *[1] * (counts.ndim - 1)) * COUNTS_PER_INDEX
        return counts.float().sub_(medium).div_(COUNTS_PER_INDEX)
