"""Product quantization."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import nn

from convae.core.context import Context
from convae.core.errors import ShapeError
from convae.core.types import Latents
from convae.model.quantizers._composed import ComposedQuantizer, join_levels, joined_terms, split_levels
from convae.model.quantizers.base import CodeIndices, QuantizerEntry, build_quantizer


class Grouped(ComposedQuantizer):
    """Product quantization: equal groups of channels are quantized apart (Jégou, Douze & Schmid 2011).

    Each group is a level with a codebook of its own; the codes together are those of the product of all codebooks.

    Args:
        channels: of the vectors, a multiple of `groups`.
        groups: number of groups of neighboring channels.
        quantizer: of each group.
    """

    example: ClassVar = {"groups": 3, "quantizer": {"vq": {"codes": 4}}}

    def __init__(
        self, channels: int | None, *, groups: Annotated[int, Field(ge=1, le=64)] = 2, quantizer: QuantizerEntry
    ) -> None:
        if channels is not None and channels % groups:
            raise ShapeError(f"{channels} channels cannot be divided into {groups} equal groups")
        made = [build_quantizer(quantizer, None if channels is None else channels // groups) for _ in range(groups)]
        super().__init__(groups * made[0].channels)
        self.quantizers = nn.ModuleList(made)
        self.codebook_sizes = made[0].codebook_sizes * groups
        self.residual_scale = made[0].residual_scale
        self.required_terms = joined_terms(made)

    def embed_codes(self, codes: CodeIndices) -> Latents:
        """Code indices, (batch, level, *grid), to code vectors, (batch, channel, *grid)."""
        inner = self._inner()
        pairs = zip(inner, split_levels(codes, inner), strict=True)
        return torch.cat([each.embed_codes(own) for each, own in pairs], 1)

    def nearest(self, values: Latents) -> CodeIndices:
        """The nearest code of each group, (batch, level, *grid)."""
        inner = self._inner()
        groups = zip(inner, values.chunk(len(inner), 1), strict=True)
        return join_levels([each.nearest(own) for each, own in groups], inner)

    def quantize(self, values: Latents, context: Context, stream: str) -> tuple[Latents, CodeIndices]:
        """Values to code vectors and the codes of all groups; reports the sums of their terms."""
        inner, latents, found = self._inner(), [], []
        for level, (each, own) in enumerate(zip(inner, values.chunk(len(inner), 1), strict=True)):
            latent, codes = each.quantize(own, context, f"{stream}/{level}")
            latents.append(latent)
            found.append(codes)
        return torch.cat(latents, 1), join_levels(found, inner)
