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
from convae.model.layers.base import ContextLayer, FeatureMap, Network, ReceptiveField, full_receptive_field, needs_axes
from convae.model.layers.residual import BRANCH_INIT_SCALE


class Attention(ContextLayer):
    """Residual self-attention over positions, with a norm before it (Vaswani et al. 2017).

    Multi-head scaled dot-product attention of arXiv:1706.03762 without a mask, in the form of the latent diffusion
    autoencoder (arXiv:2112.10752). Time and memory grow with the square of the number of positions.

    Args:
        shape: (channels, *sizes) with 1, 2 or 3 spatial axes.
        heads: number of heads.
        norm: norm before the attention.
    """

    compiles = True
    example: ClassVar = {"heads": 2, "norm": {"group-norm": {"groups": 2}}}
    keeps_shape = True

    def __init__(self, shape: Shape, *, heads: Positive = 1, norm: Named = "group-norm") -> None:
        super().__init__(shape)
        needs_axes(shape, 1, 2, 3)
        channels = shape[0]
        if channels % heads:
            raise ShapeError(
                f"{channels} channels are not divisible by {heads} heads. Change heads or the channels before it"
            )
        self.heads = heads
        self.qkv = Network(shape, [norm, {"conv": {"channels": 3 * channels, "kernel": 1}}], "qkv")
        if self.qkv.shape_out[1:] != shape[1:]:
            normed = shape_text(self.qkv.shapes[0])
            raise ShapeError(f"its norm changes {shape_text(shape)} to {normed}. Use a norm that keeps the sizes")
        last = {"conv": {"channels": channels, "kernel": 1}}
        self.out_proj = Network(shape, [last], "out_proj", init_scale=BRANCH_INIT_SCALE)

    def forward(self, x: Tensor, context: Context | None = None) -> Tensor:
        """(batch, channel, *sizes) to the same shape."""
        query, key, value = self._heads(self.qkv(x, context))
        attended = F.scaled_dot_product_attention(query, key, value)
        return torch.add(x, self.out_proj(attended.transpose(-1, -2).reshape(x.shape), context))

    def compute_in_slices(self, x: FeatureMap, context: Context | None = None) -> FeatureMap:
        """Keys and values of the entire image in one pass, then blocks of queries; the output is stored."""
        projected = self.qkv.compute_in_slices(x.share(), context)
        pairs = [self._heads(part)[1:] for part in projected.slices()]
        key, value = (torch.cat(parts, 2) for parts in zip(*pairs, strict=True))
        del pairs
        # Some kernels store the scores of a block.
        block = max(1, x.sliced.slice_bytes // (x.sliced.item_bytes * x.shape[0] * self.heads * x.positions))

        def attend(part: Tensor) -> Tensor:
            queries = self._heads(part)[0].split(block, 2)
            attended = torch.cat([F.scaled_dot_product_attention(query, key, value) for query in queries], 2)
            return attended.transpose(-1, -2).reshape(part.shape[0], -1, *part.shape[2:])

        attended = self.out_proj.compute_in_slices(projected.pointwise(attend, x.shape[1], work=1), context)
        output = x.joined([attended], torch.add, x.shape[1])
        output.tensor()
        return output

    def _heads(self, projected: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, (batch, head, position, channel of the head) each, of (batch, 3 channels, …)."""
        channels = projected.shape[1] // (3 * self.heads)
        parts = projected.reshape(projected.shape[0], 3, self.heads, channels, math.prod(projected.shape[2:]))
        heads = parts.transpose(-1, -2)
        if heads.stride(-1) != 1:  # channels first; kernels that do not store the scores need the last axis contiguous
            heads = heads.contiguous()
        query, key, value = heads.unbind(1)
        return query, key, value

    def receptive_field(self) -> ReceptiveField:
        """Every position sees the whole input."""
        return full_receptive_field(self.shape_in)
