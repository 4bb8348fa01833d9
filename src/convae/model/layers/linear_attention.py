"""Attention whose cost grows linearly with the number of positions."""

from __future__ import annotations

import math
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
from convae.model.layers.base import ContextLayer, Network, ReceptiveField, full_receptive_field, needs_axes
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
        positions = math.prod(x.shape[2:])
        # (batch, head, channel of the head, position); sums over positions in float32.
        parts = at_least_float32(every).reshape(x.shape[0], -1, 3 * self.head_channels, positions)
        query, key, value = parts.chunk(3, 2)
        with full_precision(x.device):
            value = F.pad(value, (0, 0, 0, 1), value=1.0)  # its sum is the sum of the weights
            summed = value @ key.relu().transpose(-1, -2) @ query.relu()
        attended = (summed[:, :, :-1] / summed[:, :, -1:].clamp_min(_EPS)).to(x.dtype)
        out: Tensor = self.out_proj(attended.reshape(x.shape[0], -1, *x.shape[2:]), context)
        return torch.add(x, out)

    def receptive_field(self) -> ReceptiveField:
        """Every position sees the whole input."""
        return full_receptive_field(self.shape_in)
