"""Attention whose cost grows linearly with the number of positions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from convae.core.arguments import Named, Positive
from convae.core.context import Context
from convae.core.errors import ShapeError
from convae.core.precision import at_least_float32, full_precision
from convae.core.types import Shape
from convae.model.layers.base import ContextLayer, FeatureMap, Network, ReceptiveField, full_receptive_field, needs_axes
from convae.model.layers.residual import BRANCH_INIT_SCALE

_EPS = 1e-15
"""Smallest sum of the attention weights of a position, which may all be zero."""


class LinearAttention(ContextLayer):
    """Residual multi-scale linear attention (Cai et al. 2022, arXiv:2205.14756), with a norm after it, as in DC-AE.

    The weight of two positions is relu(query) · relu(key). Keys and values are summed over positions first, so time and
    memory grow linearly with their number. Further heads attend to queries, keys and values that a depthwise
    convolution has gathered from the neighborhood.

    Args:
        shape: (channels, *sizes) with 1, 2 or 3 spatial axes.
        head_channels: channels of a head; the channels of the input must be divisible by it.
        scales: kernel sizes of the further heads, odd numbers; none by default.
        norm: norm after the attention.
    """

    compiles = True
    example: ClassVar = {"head_channels": 2, "scales": (3,)}
    keeps_shape = True

    def __init__(
        self,
        shape: Shape,
        *,
        head_channels: Positive = 32,
        scales: Annotated[tuple[Positive, ...], Field(max_length=8)] = (),
        norm: Named = "rms-norm",
    ) -> None:
        super().__init__(shape)
        needs_axes(shape, 1, 2, 3)
        if shape[0] % head_channels:
            raise ShapeError(
                f"{shape[0]} channels are not divisible by {head_channels} channels of a head. Change head_channels"
            )
        if any(kernel % 2 == 0 for kernel in scales):
            raise ShapeError(f"scales are odd kernel sizes, got {list(scales)}")
        self.head_channels = head_channels
        inner, groups = 3 * shape[0], 3 * (shape[0] // head_channels)
        self.qkv = Network(shape, [{"conv": {"channels": inner, "kernel": 1, "bias": False}}], "qkv")
        self.scales = nn.ModuleList()
        for kernel in scales:
            gather = {"channels": inner, "kernel": kernel, "groups": "depthwise", "bias": False}
            mix = {"channels": inner, "kernel": 1, "groups": groups, "bias": False}
            self.scales.append(Network(self.qkv.shape_out, [{"conv": gather}, {"conv": mix}], "scales"))
        attended = (shape[0] * (1 + len(scales)), *shape[1:])
        last = {"conv": {"channels": shape[0], "kernel": 1, "bias": False}}
        self.out_proj = Network(attended, [last, norm], "out_proj", init_scale=BRANCH_INIT_SCALE)
        if self.out_proj.shape_out != shape:
            raise ShapeError("its norm changes the shape. Use one that keeps it, such as rms-norm")

    def forward(self, x: Tensor, context: Context | None = None) -> Tensor:
        """(batch, channel, *sizes) to the same shape."""
        projected: Tensor = self.qkv(x, context)
        every = torch.cat([projected, *(scale(projected, context) for scale in self.scales)], 1)
        with full_precision(x.device):
            attended = self._attend(every, self._summed(every))
        out: Tensor = self.out_proj(attended.to(x.dtype), context)
        return torch.add(x, out)

    def compute_in_slices(self, x: FeatureMap, context: Context | None = None) -> FeatureMap:
        """Sums of keys and values over the entire image in one pass, then the rows."""
        projected = self.qkv.compute_in_slices(x.share(), context).share()
        scales = [scale.compute_in_slices(projected, context) for scale in self._scales()]
        channels = projected.shape[1] * (1 + len(scales))
        every = projected.joined(scales, lambda *parts: torch.cat(parts, 1), channels)
        total: Tensor | None = None
        for part in every.slices():
            with full_precision(part.device):
                summed = self._summed(part)
            total = summed if total is None else total + summed

        def attend(part: Tensor) -> Tensor:
            assert total is not None
            with full_precision(part.device):
                return self._attend(part, total).to(part.dtype)

        attended = every.pointwise(attend, channels // 3)
        return x.joined([self.out_proj.compute_in_slices(attended, context)], torch.add, x.shape[1])

    def _scales(self) -> Iterator[Network]:
        for scale in self.scales:
            assert isinstance(scale, Network)
            yield scale

    def _heads(self, every: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, (batch, head, channel of the head, position) each, in float32 or wider."""
        positions = math.prod(every.shape[2:])
        parts = at_least_float32(every).reshape(every.shape[0], -1, 3 * self.head_channels, positions)
        query, key, value = parts.chunk(3, 2)
        return query, key, value

    def _summed(self, every: Tensor) -> Tensor:
        """Products of values and keys, summed over positions; the last row is the sum of the keys."""
        _, key, value = self._heads(every)
        return F.pad(value, (0, 0, 0, 1), value=1.0) @ key.relu().transpose(-1, -2)

    def _attend(self, every: Tensor, summed: Tensor) -> Tensor:
        """(batch, channel, *sizes) of what the queries at each position attend to."""
        found = summed @ self._heads(every)[0].relu()
        attended = found[:, :, :-1] / found[:, :, -1:].clamp_min(_EPS)
        return attended.reshape(every.shape[0], -1, *every.shape[2:])

    def receptive_field(self) -> ReceptiveField:
        """Every position sees the whole input."""
        return full_receptive_field(self.shape_in)
