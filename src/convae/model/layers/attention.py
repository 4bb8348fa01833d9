"""Self-attention over positions."""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from convae.core.arguments import Named, Positive
from convae.core.errors import ShapeError
from convae.core.names import shape_text
from convae.core.types import Shape
from convae.model.layers.base import Layer, Network, ReceptiveField, full_receptive_field, needs_axes


class Attention(Layer):
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
        self.ask = Network(shape, [norm, {"conv": {"channels": 3 * channels, "kernel": 1}}], "ask")
        if self.ask.shape_out[1:] != shape[1:]:
            normed = shape_text(self.ask.shapes[0])
            raise ShapeError(f"its norm turns {shape_text(shape)} into {normed}; it needs one that keeps the sizes")
        self.branch = Network(shape, [{"conv": {"channels": channels, "kernel": 1}}], "branch")

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channel, *sizes), the same again."""
        asked: Tensor = self.ask(x)
        # (batch, query/key/value, head, channel of the head, position), then channels last.
        parts = asked.reshape(x.shape[0], 3, self.heads, x.shape[1] // self.heads, math.prod(x.shape[2:])).transpose(
            -1, -2
        )
        query, key, value = parts.unbind(1)
        heard = F.scaled_dot_product_attention(query, key, value)
        answer: Tensor = self.branch(heard.transpose(-1, -2).reshape(x.shape))
        return x + answer

    def receptive_field(self) -> ReceptiveField:
        """Every position sees the whole input."""
        return full_receptive_field(self.shape_in)
