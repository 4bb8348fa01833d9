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
from convae.model.quantizers._composed import ComposedQuantizer, join_levels, joined_terms, split_levels
from convae.model.quantizers.base import CodeIndices, Quantizer, QuantizerEntry, build_quantizer


class Residual(ComposedQuantizer):
    """Residual quantization: each level quantizes what the levels before it left (Zeghidour et al. 2021).

    arXiv:2107.03312. The code vector is the sum over the levels. Its gradient passes through the first level alone:
    all levels together would count it several times. Levels of fixed codes (`fsq`, `lfq`, `bsq`) are each finer than
    the one before by their own spacing.

    In training with `dropout`, a step may use the first levels only, so that fewer codes than all can be decoded.

    Args:
        channels: of the vectors.
        levels: number of levels.
        quantizer: of each level.
        shared: whether all levels use one codebook.
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
        self.required_terms = joined_terms(made)

    def embed_codes(self, codes: CodeIndices) -> Latents:
        """Code indices, (batch, level, *grid), to code vectors, (batch, channel, *grid)."""
        stack = self._stack()
        parts = zip(split_levels(codes, [each for each, _ in stack]), stack, strict=True)
        total: Latents = sum(scale * each.embed_codes(own) for own, (each, scale) in parts)  # type: ignore[assignment]
        return total

    def nearest(self, values: Latents) -> CodeIndices:
        """The nearest code of each level in turn, (batch, level, *grid)."""
        found, rest = [], values
        for each, scale in self._stack():
            codes = each.nearest(rest / scale)
            rest = rest - scale * each.embed_codes(codes).to(values.dtype)
            found.append(codes)
        return join_levels(found, [each for each, _ in self._stack()])

    def quantize(self, values: Latents, context: Context, stream: str) -> tuple[Latents, CodeIndices]:
        """Values to the sum of code vectors and the codes of all levels; reports the terms of the levels in use."""
        kept, stack = self._kept(context, stream), self._stack()
        found, rest, total = [], values, torch.zeros_like(values)
        for level, (each, scale) in enumerate(stack):
            if level >= kept:
                codes = each.nearest((rest / scale).detach())
                rest = rest - scale * each.embed_codes(codes).to(values.dtype).detach()
            else:
                latent, codes = each.quantize(rest / scale, context, f"{stream}/{level}")
                rest = rest - scale * latent.detach()
                total = total + scale * (latent if level == 0 else latent.detach())
            found.append(codes)
        return total, join_levels(found, [each for each, _ in stack])

    def _stack(self) -> list[tuple[Quantizer, float]]:
        """The quantizer of each level, and the scale of what it quantizes."""
        inner = self._inner()
        step = inner[0].residual_scale
        return [(inner[level % len(inner)], step**level) for level in range(self.levels)]

    def _kept(self, context: Context, stream: str) -> int:
        """The number of levels that this pass uses: the same for all images of a step."""
        if not (self.training and self.dropout):
            return self.levels
        generator = single_generator(context.noise_for(stream), "levels")
        chance, kept = (int(draw_integers(below, (), generator)) for below in (1 << 20, self.levels))
        return kept + 1 if chance < self.dropout * (1 << 20) else self.levels
