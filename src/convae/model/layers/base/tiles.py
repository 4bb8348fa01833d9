"""Computation of large images in overlapping tiles that are blended. It is approximate, unlike slices."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor


@dataclass(frozen=True)
class Tiles:
    """Division of a network's input into overlapping tiles.

    Each tile is computed as an image of its own, so that norms and attention see the tile only. Where tiles overlap,
    outputs are averaged with weights that fall linearly towards the border of a tile.

    Attributes:
        size: positions of a tile along each spatial axis.
        overlap: positions that neighboring tiles share, at least.
        stride: input positions per output position along each axis; sizes and overlap are multiples of it.
    """

    size: tuple[int, ...]
    overlap: tuple[int, ...]
    stride: tuple[Fraction, ...]

    def compute(self, run: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Applies a function to each tile of `x`, (batch, channel, *sizes), and blends its outputs."""
        sizes = x.shape[2:]
        starts = [_starts(*each) for each in zip(sizes, self.size, self.overlap, self.stride, strict=True)]
        if math.prod(map(len, starts)) == 1:
            return run(x)
        total: Tensor | None = None
        weight = x.new_zeros(())
        for corner in itertools.product(*starts):
            tile = x
            for axis, (start, size) in enumerate(zip(corner, self.size, strict=True), start=2):
                tile = tile.narrow(axis, start, min(size, x.shape[axis] - start))
            y = run(tile)
            place = [int(start / step) for start, step in zip(corner, self.stride, strict=True)]
            if total is None:
                # Tiles have equal sizes, and the last one ends where the image does.
                whole = [
                    int(last[-1] / step) + size
                    for last, step, size in zip(starts, self.stride, y.shape[2:], strict=True)
                ]
                total, weight = y.new_zeros(*y.shape[:2], *whole), y.new_zeros(1, 1, *whole)
            here = (slice(None), slice(None), *(slice(a, a + n) for a, n in zip(place, y.shape[2:], strict=True)))
            faded = self._weights(y.shape[2:], place, total.shape[2:]).to(y)
            total[here] += y * faded
            weight[here] += faded
        assert total is not None
        return total / weight

    def _weights(self, sizes: Sequence[int], place: Sequence[int], whole: Sequence[int]) -> Tensor:
        """(*sizes) weights of an output tile, below 1 at borders inside of the image."""
        result = torch.ones(())
        for axis, (size, start, end) in enumerate(zip(sizes, place, whole, strict=True)):
            faded = max(1, int(self.overlap[axis] / self.stride[axis]))
            ramp = (torch.arange(size) + 0.5) / faded
            low = ramp.clamp(max=1) if start > 0 else torch.ones(size)
            high = ramp.flip(0).clamp(max=1) if start + size < end else torch.ones(size)
            result = result.unsqueeze(-1) * (low * high)
        return result


def _starts(size: int, tile: int, overlap: int, stride: Fraction) -> list[int]:
    """First position of each tile along an axis, at the start of an output position; the last ends with the axis."""
    if tile >= size:
        return [0]
    last = size - tile
    step = max(stride.numerator, (tile - overlap) // stride.numerator * stride.numerator)
    return [*range(0, last, step), last]
