"""Residual quantization."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import nn

from convae.core.arguments import Fraction
from convae.core.context import Context
from convae.core.noise import draw_integers, single_generator
from convae.core.types import Latents
from convae.model.quantizers._composed import ComposedQuantizer, join_levels, split_levels, union_of_terms
from convae.model.quantizers.base import CodeIndices, Quantizer, QuantizerEntry, build_quantizer


class Residual(ComposedQuantizer):
    """Residual quantization: each level quantizes the residual of the levels before it (Zeghidour et al. 2021).

    arXiv:2107.03312. The code vector is the sum over levels; its gradient flows through the first level only, so that
    it is not counted several times. Codebooks of fixed scale (`fsq`, `lfq`, `bsq`) are scaled down from level to level
    by the distance between their codes.

    With quantizer dropout, some training steps use the first levels only, so that codes of fewer levels can be decoded.

    Args:
        channels: number of channels of a vector.
        levels: number of levels.
        quantizer: quantizer of each level.
        shared: whether all levels share one codebook.
        dropout: probability that a training step uses a random number of levels, from 1 to all.
    """

    example: ClassVar = {"levels": 2, "quantizer": {"vq": {"codes": 4}}}

    def __init__(
        self,
        channels: int | None,
        *,
        levels: Annotated[int, Field(ge=1, le=64)] = 4,
        quantizer: QuantizerEntry,
        shared: bool = False,
        dropout: Fraction = 0.0,
    ) -> None:
        made = [build_quantizer(quantizer, channels) for _ in range(1 if shared else levels)]
        super().__init__(made[0].channels)
        self.levels, self.dropout = levels, dropout
        self.quantizers = nn.ModuleList(made)
        self.codebook_sizes = made[0].codebook_sizes * levels
        self.required_terms = union_of_terms(made)

    def embed_codes(self, codes: CodeIndices) -> Latents:
        """Code vectors, (batch, channel, *grid), of code indices, (batch, level, *grid)."""
        levels = self._levels()
        parts = zip(split_levels(codes, [quantizer for quantizer, _ in levels]), levels, strict=True)
        total: Latents = sum(scale * quantizer.embed_codes(level) for level, (quantizer, scale) in parts)  # type: ignore[assignment]
        return total

    def nearest(self, values: Latents) -> CodeIndices:
        """The nearest code of each level to the residual, (batch, level, *grid)."""
        found, residual = [], values
        for quantizer, scale in self._levels():
            codes = quantizer.nearest(residual / scale)
            residual = residual - scale * quantizer.embed_codes(codes).to(values.dtype)
            found.append(codes)
        return join_levels(found, [quantizer for quantizer, _ in self._levels()])

    def quantize(self, values: Latents, context: Context, stream: str) -> tuple[Latents, CodeIndices]:
        """Sum of the code vectors of the levels in use, and codes of all levels; reports the terms of levels in use."""
        used, levels = self._draw_level_count(context, stream), self._levels()
        found, residual, total = [], values, torch.zeros_like(values)
        for level, (quantizer, scale) in enumerate(levels):
            if level >= used:
                codes = quantizer.nearest((residual / scale).detach())
                residual = residual - scale * quantizer.embed_codes(codes).to(values.dtype).detach()
            else:
                latent, codes = quantizer.quantize(residual / scale, context, f"{stream}/{level}")
                residual = residual - scale * latent.detach()
                total = total + scale * (latent if level == 0 else latent.detach())
            found.append(codes)
        return total, join_levels(found, [quantizer for quantizer, _ in levels])

    def _levels(self) -> list[tuple[Quantizer, float]]:
        """The quantizer of each level, and the scale of its residual."""
        inner = self._inner()
        ratio = inner[0].residual_scale
        return [(inner[level % len(inner)], ratio**level) for level in range(self.levels)]

    def _draw_level_count(self, context: Context, stream: str) -> int:
        """The number of levels in use, equal for all images of a step."""
        if not (self.training and self.dropout):
            return self.levels
        generator = single_generator(context.noise_for(stream), "levels")
        chance, count = (int(draw_integers(below, (), generator)) for below in (1 << 20, self.levels))
        return count + 1 if chance < self.dropout * (1 << 20) else self.levels
