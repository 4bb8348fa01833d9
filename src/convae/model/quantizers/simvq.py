"""Vector quantization with a codebook behind one linear layer."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from convae.core.context import Context
from convae.core.errors import ConfigError
from convae.core.precision import full_precision
from convae.core.types import Latents
from convae.model.quantizers._estimators import Estimator, pass_gradient
from convae.model.quantizers._nearest import nearest_codes
from convae.model.quantizers.base import MAX_CODES, CodeIndices, Quantizer, squared_distance, to_grid, to_vectors


class SimVQ(Quantizer):
    """Vector quantization with fixed random codes behind a trained linear layer (Zhu et al. 2024, arXiv:2411.02038).

    The layer moves all codes at once, so that none stays behind. Objectives need the terms `commitment` and
    `codebook`.

    Args:
        channels: of the vectors.
        codes: codebook size.
        estimator: how the gradient passes: straight through, or rotated as the vector is onto its code.
    """

    example: ClassVar = {"codes": 4}
    required_terms = ("commitment", "codebook")
    base: Tensor

    def __init__(
        self,
        channels: int | None,
        *,
        codes: Annotated[int, Field(ge=2, le=MAX_CODES)] = 512,
        estimator: Estimator = "straight-through",
    ) -> None:
        if channels is None:
            raise ConfigError("'latent' is missing. Give the dimension of a code")
        super().__init__(channels)
        self.codebook_sizes, self.estimator = (codes,), estimator
        self.register_buffer("base", torch.empty(codes, channels))
        self.weight = nn.Parameter(torch.empty(channels, channels))
        self.reset()

    def embed_codes(self, codes: CodeIndices) -> Latents:
        """Code indices, (batch, *grid), to code vectors, (batch, channel, *grid)."""
        with full_precision(self.weight.device):
            return F.linear(F.embedding(codes, self.base), self.weight).movedim(-1, 1)

    def nearest(self, values: Latents) -> CodeIndices:
        """The nearest code of each vector, (batch, *grid)."""
        with torch.no_grad(), full_precision(values.device):
            codebook = F.linear(self.base.to(values.dtype), self.weight.to(values.dtype))
            return to_grid(nearest_codes(to_vectors(values), codebook), values)

    def quantize(self, values: Latents, context: Context, stream: str) -> tuple[Latents, CodeIndices]:
        """Values to code vectors and codes; reports the squared distance to them (squared latent units) as terms."""
        codes = self.nearest(values)
        found = self.embed_codes(codes).to(values.dtype)
        context.report_term("commitment", squared_distance(values, found.detach()), stream)
        context.report_term("codebook", squared_distance(values.detach(), found), stream)
        return pass_gradient(found.detach(), values, self.estimator), codes

    @torch.no_grad()
    def reset(self, generator: torch.Generator | None = None) -> None:
        """Initializes codes of norm about 1 and the layer with the variance 1 / (3 · channels).

        Both as in the authors' code (github.com/youngsheen/SimVQ) and in vector-quantize-pytorch, whose linear layers
        are uniform with that variance; the authors' layer has a bias, the paper's and ours has none. Larger code
        vectors than features leave most codes unused.
        """
        self.base.copy_(torch.randn(self.base.shape, generator=generator) / math.sqrt(self.channels))
        self.weight.copy_(torch.randn(self.weight.shape, generator=generator) / math.sqrt(3 * self.channels))
