"""Self-attention over positions."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from convae.core.arguments import Named, Positive
from convae.core.context import Context
from convae.core.errors import ShapeError
from convae.core.names import shape_text
from convae.core.types import Shape
from convae.model.layers.base import ContextLayer, Network, ReceptiveField, full_receptive_field, needs_axes
from convae.model.layers.residual import BRANCH_INIT_SCALE


class Attention(ContextLayer):
    """Each position asks all others, after a norm, and adds what it hears to itself (Vaswani et al. 2017).

    Multi-head dot-product attention of arXiv:1706.03762 without a mask, in the residual form of the latent
    diffusion autoencoder (arXiv:2112.10752). Time and memory grow with the square of the number of positions.

    Args:
        shape: (channels, *sizes) with 1, 2 or 3 spatial axes.
        heads: parts of the channels that attend by themselves.
        norm: the norm in front.
    """

    example: ClassVar = {"heads": 2, "norm": {"group-norm": {"groups": 2}}}
    keeps_shape = True

    def __init__(self, shape: Shape, *, heads: Positive = 1, norm: Named = "group-norm") -> None:
        super().__init__(shape)
        needs_axes(shape, 1, 2, 3)
        channels = shape[0]
        if channels % heads:
            raise ShapeError(f"needs channels that {heads} heads divide, got {channels} channels")
        self.heads = heads
        self.qkv = Network(shape, [norm, {"conv": {"channels": 3 * channels, "kernel": 1}}], "qkv")
        if self.qkv.shape_out[1:] != shape[1:]:
            normed = shape_text(self.qkv.shapes[0])
            raise ShapeError(f"its norm turns {shape_text(shape)} into {normed}; it needs one that keeps the sizes")
        last = {"conv": {"channels": channels, "kernel": 1}}
        self.out_proj = Network(shape, [last], "out_proj", init_scale=BRANCH_INIT_SCALE)

    def forward(self, x: Tensor, context: Context | None = None) -> Tensor:
        """(batch, channel, *sizes), the same again."""
        projected = self.qkv(x, context)
        # (batch, query/key/value, head, channel of the head, position), then channels last.
        parts = projected.reshape(x.shape[0], 3, self.heads, x.shape[1] // self.heads, math.prod(x.shape[2:]))
        query, key, value = parts.transpose(-1, -2).unbind(1)
        attended = F.scaled_dot_product_attention(query, key, value)
        return torch.add(x, self.out_proj(attended.transpose(-1, -2).reshape(x.shape), context))

    def receptive_field(self) -> ReceptiveField:
        """Every position sees the whole input."""
        return full_receptive_field(self.shape_in)
