"""Finite scalar quantization."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from convae.core.context import Context
from convae.core.device import copy_to_device
from convae.core.precision import with_gradient_of
from convae.core.types import Latents
from convae.model.quantizers.base import CodeIndices, Quantizer, require_channels, require_codes

_MARGIN = 1e-3
"""Relative margin of the bounds beyond the outermost levels, so that rounding reaches them."""


class FSQ(Quantizer):
    """Finite scalar quantization: each channel is bounded and rounded to a few levels (Mentzer et al. 2023).

    arXiv:2309.15505. The codebook is the grid of all combinations of levels, without parameters and loss terms. The
    first channel varies fastest in the code index. Levels in the paper: 8·5·5·5 for about 1,000 codes, 7·5·5·5·5 for
    about 4,096, 8·8·8·5·5·5 for about 65,536.

    Args:
        channels: number of channels of a vector, equal to the length of `levels`.
        levels: number of levels of each channel.
    """

    example: ClassVar = {"levels": [5, 4, 3]}

    def __init__(
        self, channels: int | None, *, levels: Annotated[tuple[Annotated[int, Field(ge=3)], ...], Field(min_length=1)]
    ) -> None:
        super().__init__(require_channels(channels, len(levels), f"one for each of its {len(levels)} levels"))
        self.levels = levels
        self.codebook_sizes = (require_codes(math.prod(levels)),)
        self.residual_scale = 1 / (max(levels) - 1)

    def embed_codes(self, codes: CodeIndices) -> Latents:
        """Code vectors in [-1, 1], (batch, channel, *grid), of code indices, (batch, *grid)."""
        levels, half = self._along_channels(codes), self._along_channels(codes) // 2
        strides = torch.cumprod(levels, 1) // levels
        digits = (codes.unsqueeze(1) // strides) % levels
        return (digits - half).to(torch.get_default_dtype()) / half

    def nearest(self, values: Latents) -> CodeIndices:
        """The code of each vector, (batch, *grid)."""
        levels = self._along_channels(values)
        digits = self._bounded(values).round().long() + levels // 2
        return (digits * (torch.cumprod(levels, 1) // levels)).sum(1)

    def quantize(self, values: Latents, context: Context, stream: str) -> tuple[Latents, CodeIndices]:
        """Code vectors, with a straight-through gradient to the bounded values, and codes."""
        codes = self.nearest(values.detach())
        scaled = self._bounded(values) / (self._along_channels(values) // 2)
        return with_gradient_of(self.embed_codes(codes).to(values.dtype), scaled), codes

    def _along_channels(self, like: Tensor) -> Tensor:
        """Levels as int64, (1, channel, 1, …), which broadcasts to code indices or values."""
        axes = like.ndim - (2 if like.is_floating_point() else 1)
        return copy_to_device(torch.tensor(self.levels), like.device).view(1, -1, *(1,) * axes)

    def _bounded(self, values: Latents) -> Latents:
        """Values bounded to the range of their levels, which are successive integers around 0."""
        levels = self._along_channels(values).to(values.dtype)
        half = (levels - 1) * (1 + _MARGIN) / 2
        offset = 0.5 * (levels % 2 == 0).to(values.dtype)
        return torch.tanh(values + torch.atanh(offset / half)) * half - offset
