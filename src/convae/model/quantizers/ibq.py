"""Index backpropagation quantization."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from convae.core.arguments import NonNegativeFloat, PositiveFloat
from convae.core.context import Context
from convae.core.errors import ConfigError
from convae.core.precision import full_precision, with_gradient_of
from convae.core.slices import mean_of_sums
from convae.core.types import Latents
from convae.model.quantizers._assignment import soft_assignment
from convae.model.quantizers._entropy import entropy_cost, entropy_of
from convae.model.quantizers._nearest import most_similar_codes
from convae.model.quantizers.base import MAX_CODES, CodeIndices, Quantizer, squared_distance, to_grid, to_vectors


class IBQ(Quantizer):
    """Index backpropagation: the gradient reaches all codes through a softmax (Shi et al. 2024, arXiv:2412.02692).

    A vector becomes the code with the largest dot product; the gradient of the choice is that of softmax(dot
    products). Objectives need the terms `commitment`, `codebook`, which contains the paper's double quantization loss,
    and `entropy`, as for `lfq`.

    Args:
        channels: of the vectors.
        codes: codebook size.
        temperature: of the assignments in the entropy term.
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
        if channels is None:
            raise ConfigError("'latent' is missing. Give the dimension of a code")
        super().__init__(channels)
        self.codebook_sizes = (codes,)
        self.temperature, self.diversity = temperature, diversity
        self.codebook = nn.Parameter(torch.empty(codes, channels))
        self.reset()

    def embed_codes(self, codes: CodeIndices) -> Latents:
        """Code indices, (batch, *grid), to code vectors, (batch, channel, *grid)."""
        return F.embedding(codes, self.codebook).movedim(-1, 1)

    def nearest(self, values: Latents) -> CodeIndices:
        """The code with the largest dot product with each vector, (batch, *grid)."""
        return to_grid(most_similar_codes(to_vectors(values), self.codebook), values)

    def quantize(self, values: Latents, context: Context, stream: str) -> tuple[Latents, CodeIndices]:
        """Values to code vectors and codes, with the gradient of the choice of codes; reports the terms."""
        codes = self.nearest(values)
        found = self.embed_codes(codes).to(values.dtype)
        if torch.compiler.is_exporting():
            return found, codes
        vectors, codebook = to_vectors(values), self.codebook.to(values.dtype)
        latent = found
        if torch.is_grad_enabled():
            mean, _, _ = soft_assignment(vectors, codebook, 1.0)
            latent = found + _no_value(to_grid(mean, values).movedim(-1, 1))
        context.report_term("commitment", squared_distance(values, found.detach()), stream)
        double = squared_distance(values, latent)
        context.report_term("codebook", squared_distance(values.detach(), found) + double, stream)
        _, entropy, total = soft_assignment(vectors, codebook, self.temperature)
        with full_precision(values.device):
            marginal = entropy_of(mean_of_sums(total, len(vectors)))
        context.report_term("entropy", entropy_cost(to_grid(entropy, values), marginal, self.diversity), stream)
        return latent, codes

    @torch.no_grad()
    def reset(self, generator: torch.Generator | None = None) -> None:
        """Initializes codes uniformly in ±1 / codes, so that the first choices are even."""
        size = len(self.codebook)
        self.codebook.copy_((2 * torch.rand(self.codebook.shape, generator=generator) - 1) / size)


def _no_value(tensor: Tensor) -> Tensor:
    """Zeros with the gradient of a tensor."""
    return with_gradient_of(torch.zeros_like(tensor), tensor)
