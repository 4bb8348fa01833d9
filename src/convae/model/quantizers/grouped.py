"""Product quantization."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import nn

from convae.core.context import Context
from convae.core.errors import ShapeError
from convae.core.names import count_text
from convae.core.types import Latents
from convae.model.quantizers._composed import ComposedQuantizer, join_levels, split_levels, union_of_terms
from convae.model.quantizers.base import CodeIndices, QuantizerEntry, build_quantizer


class Grouped(ComposedQuantizer):
    """Product quantization: groups of channels are quantized independently (Jégou, Douze & Schmid 2011).

    doi:10.1109/TPAMI.2010.57. Each group has its own codebook, and is a level of the code.

    Args:
        channels: number of channels of a vector, a multiple of `groups`.
        groups: number of groups of adjacent channels, of equal size.
        quantizer: quantizer of each group.
    """

    example: ClassVar = {"groups": 3, "quantizer": {"vq": {"codes": 4}}}

    def __init__(
        self, channels: int | None, *, groups: Annotated[int, Field(ge=1, le=64)] = 2, quantizer: QuantizerEntry
    ) -> None:
        if channels is not None and channels % groups:
            raise ShapeError(f"groups: expected a divisor of {count_text(channels, 'channel')}, got {groups}")
        made = [build_quantizer(quantizer, None if channels is None else channels // groups) for _ in range(groups)]
        super().__init__(groups * made[0].channels)
        self.quantizers = nn.ModuleList(made)
        self.codebook_sizes = made[0].codebook_sizes * groups
        self.residual_scale = made[0].residual_scale
        self.required_terms = union_of_terms(made)

    def embed_codes(self, codes: CodeIndices) -> Latents:
        """Code vectors, (batch, channel, *grid), of code indices, (batch, level, *grid)."""
        inner = self._inner()
        pairs = zip(inner, split_levels(codes, inner), strict=True)
        return torch.cat([quantizer.embed_codes(level) for quantizer, level in pairs], 1)

    def nearest(self, values: Latents) -> CodeIndices:
        """The nearest code of each group, (batch, level, *grid)."""
        inner = self._inner()
        groups = zip(inner, values.chunk(len(inner), 1), strict=True)
        return join_levels([quantizer.nearest(group) for quantizer, group in groups], inner)

    def quantize(self, values: Latents, context: Context, stream: str) -> tuple[Latents, CodeIndices]:
        """Code vectors and codes of all groups; each group reports its terms, which add up."""
        inner, latents, found = self._inner(), [], []
        for level, (quantizer, group) in enumerate(zip(inner, values.chunk(len(inner), 1), strict=True)):
            latent, codes = quantizer.quantize(group, context, f"{stream}/{level}")
            latents.append(latent)
            found.append(codes)
        return torch.cat(latents, 1), join_levels(found, inner)
