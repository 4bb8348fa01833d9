"""Padding with other values than zeros."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from convae.core.arguments import NonNegative
from convae.core.context import Context
from convae.core.errors import ShapeError
from convae.core.types import Shape
from convae.model.layers.base import FeatureMap, Layer, ReceptiveField, needs_axes, per_axis

_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "replicate", "circular": "circular"}
"""torch's names."""


class Pad(Layer):
    """Padding of the spatial axes, before a convolution with `padding: 0`: for periodic fields, panoramas and borders.

    For an axis with another mode than the others, use one layer for each mode.

    Args:
        shape: (channels, *sizes) with 1, 2 or 3 spatial axes.
        padding: positions at both ends, one number or one per axis.
        mode: `zeros`; `reflect`, which mirrors at the border position; `replicate`, which repeats it; or `circular`,
            for periodic axes.
    """

    example: ClassVar = {"padding": 1, "mode": "circular"}

    def __init__(
        self,
        shape: Shape,
        *,
        padding: NonNegative | tuple[NonNegative, ...] = 1,
        mode: Literal["zeros", "reflect", "replicate", "circular"] = "reflect",
    ) -> None:
        super().__init__(shape)
        needs_axes(shape, 1, 2, 3)
        self.padding = per_axis(padding, shape, "padding")
        self.mode = _MODES[mode]
        for size, own in zip(shape[1:], self.padding, strict=True):
            most = {"reflect": size - 1, "circular": size}.get(mode, own)
            if own > most:
                raise ShapeError(
                    f"padding {own} of mode {mode} needs an axis of at least {own + size - most} positions"
                )

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channel, *sizes) to (batch, channel, *sizes + 2 · padding)."""
        return self._padded(x, self.padding)

    def shape_out(self) -> Shape:
        """The channels, and the larger sizes."""
        sizes = (size + 2 * own for size, own in zip(self.shape_in[1:], self.padding, strict=True))
        return (self.shape_in[0], *sizes)

    def receptive_field(self) -> ReceptiveField:
        """One position."""
        return ReceptiveField((1.0,) * len(self.padding), (1.0,) * len(self.padding))

    def compute_in_slices(self, x: FeatureMap, context: Context | None = None) -> FeatureMap:
        """The rows that `forward` copies, some of them from the other end; −1 for zeros."""
        numbers = torch.arange(x.shape[2], dtype=torch.float32)[None, None]
        ends = [self.padding[0]] * 2
        fill = -1.0 if self.mode == "constant" else None
        index = F.pad(numbers, ends, mode=self.mode, value=fill)[0, 0].long()
        sizes = [size + 2 * own for size, own in zip(x.shape[2:], self.padding, strict=True)]
        return x.chosen_rows(index, lambda part: self._padded(part, (0, *self.padding[1:])), sizes)

    def _padded(self, x: Tensor, padding: tuple[int, ...]) -> Tensor:
        if self.mode != "circular":
            return F.pad(x, [own for one in reversed(padding) for own in (one, one)], mode=self.mode)
        # Not by torch's function, for which OpenVINO has no operation.
        for axis, own in enumerate(padding, start=2):
            if own:
                size = x.shape[axis]
                x = torch.cat([x.narrow(axis, size - own, own), x, x.narrow(axis, 0, own)], axis)
        return x
