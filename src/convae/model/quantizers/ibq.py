"""Index backpropagation quantization."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional as F

from convae.core.arguments import NonNegativeFloat, PositiveFloat
from convae.core.context import Context
from convae.core.precision import full_precision, with_gradient_of
from convae.core.slices import mean_of_sums
from convae.core.types import Latents
from convae.model.quantizers._assignment import soft_assignment
from convae.model.quantizers._entropy import entropy_cost, entropy_of
from convae.model.quantizers._nearest import most_similar_codes
from convae.model.quantizers.base import (
    MAX_CODES,
    CodeIndices,
    Quantizer,
    require_known_channels,
    squared_distance,
    to_grid,
    to_vectors,
)


class IBQ(Quantizer):
    """Index backpropagation: gradients reach all codes through a softmax (Shi et al. 2024, arXiv:2412.02692).

    The code of a vector is the one with the largest dot product, with the gradient of softmax(dot products). The
    objective must contain the terms `commitment`, `codebook`, which includes the double quantization loss of the paper,
    and `entropy`, as for `lfq`.

    Args:
        channels: number of channels of a vector.
        codes: codebook size.
        temperature: temperature of the soft assignments in the entropy term.
        diversity: factor on the entropy of the mean assignment.
    """

    example: ClassVar = {"codes": 4}
    required_terms = ("commitment", "codebook", "entropy")

    def __init__(
        self,
        channels: int | None,
        *,
        codes: Annotated[int, Field(ge=2, le=MAX_CODES)] = 512,
        temperature: PositiveFloat = 0.01,
        diversity: NonNegativeFloat = 1.0,
    ) -> None:
        channels = require_known_channels(channels)
        super().__init__(channels)
        self.codebook_sizes = (codes,)
        self.temperature, self.diversity = temperature, diversity
        self.codebook = nn.Parameter(torch.empty(codes, channels))
        self.reset()

    def embed_codes(self, codes: CodeIndices) -> Latents:
        """Code vectors, (batch, channel, *grid), of code indices, (batch, *grid)."""
        return F.embedding(codes, self.codebook).movedim(-1, 1)

    def nearest(self, values: Latents) -> CodeIndices:
        """The code with the largest dot product with each vector, (batch, *grid)."""
        return to_grid(most_similar_codes(to_vectors(values), self.codebook), values)

    def quantize(self, values: Latents, context: Context, stream: str) -> tuple[Latents, CodeIndices]:
        """Code vectors, with gradients to values and codebook through the softmax, and codes; reports the terms."""
        codes = self.nearest(values)
        nearest = self.embed_codes(codes).to(values.dtype)
        if torch.compiler.is_exporting():
            return nearest, codes
        vectors, codebook = to_vectors(values), self.codebook.to(values.dtype)
        latent = nearest
        if torch.is_grad_enabled():
            mean, _, _ = soft_assignment(vectors, codebook, 1.0)
            mean = to_grid(mean, values).movedim(-1, 1)
            latent = nearest + with_gradient_of(torch.zeros_like(mean), mean)
        context.report_term("commitment", squared_distance(values, nearest.detach()), stream)
        double = squared_distance(values, latent)
        context.report_term("codebook", squared_distance(values.detach(), nearest) + double, stream)
        _, entropy, total = soft_assignment(vectors, codebook, self.temperature)
        with full_precision(values.device):
            marginal = entropy_of(mean_of_sums(total, len(vectors)))
        context.report_term("entropy", entropy_cost(to_grid(entropy, values), marginal, self.diversity), stream)
        return latent, codes

    @torch.no_grad()
    def reset(self, generator: torch.Generator | None = None) -> None:
        """Draws code vectors from N(0, 1), as the authors' code does: the soft assignments to smaller ones are even."""
        self.codebook.copy_(torch.randn(self.codebook.shape, generator=generator))
