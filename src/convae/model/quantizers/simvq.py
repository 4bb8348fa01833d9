"""Vector quantization with a linearly transformed codebook."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from convae.core.context import Context
from convae.core.precision import full_precision
from convae.core.types import Latents
from convae.model.quantizers._estimators import Estimator, pass_gradient
from convae.model.quantizers._nearest import nearest_codes
from convae.model.quantizers.base import (
    MAX_CODES,
    CodeIndices,
    Quantizer,
    require_known_channels,
    squared_distance,
    to_grid,
    to_vectors,
)


class SimVQ(Quantizer):
    """Vector quantization with fixed random codes and a trained linear layer (Zhu et al. 2024, arXiv:2411.02038).

    The layer moves all codes together, so that no code is left unused. The objective must contain the terms
    `commitment` and `codebook`.

    Args:
        channels: number of channels of a vector.
        codes: codebook size.
        estimator: gradient estimator: `straight-through`, or the `rotation` trick.
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
        channels = require_known_channels(channels)
        super().__init__(channels)
        self.codebook_sizes, self.estimator = (codes,), estimator
        self.register_buffer("base", torch.empty(codes, channels))
        self.weight = nn.Parameter(torch.empty(channels, channels))
        self.reset()

    def embed_codes(self, codes: CodeIndices) -> Latents:
        """Code vectors, (batch, channel, *grid), of code indices, (batch, *grid)."""
        with full_precision(self.weight.device):
            return F.linear(F.embedding(codes, self.base), self.weight).movedim(-1, 1)

    def nearest(self, values: Latents) -> CodeIndices:
        """The nearest code of each vector, (batch, *grid)."""
        with torch.no_grad(), full_precision(values.device):
            codebook = F.linear(self.base.to(values.dtype), self.weight.to(values.dtype))
            return to_grid(nearest_codes(to_vectors(values), codebook), values)

    def quantize(self, values: Latents, context: Context, stream: str) -> tuple[Latents, CodeIndices]:
        """Code vectors and codes; reports the terms, squared distances in squared latent units."""
        codes = self.nearest(values)
        nearest = self.embed_codes(codes).to(values.dtype)
        context.report_term("commitment", squared_distance(values, nearest.detach()), stream)
        context.report_term("codebook", squared_distance(values.detach(), nearest), stream)
        return pass_gradient(nearest.detach(), values, self.estimator), codes

    @torch.no_grad()
    def reset(self, generator: torch.Generator | None = None) -> None:
        """Initializes codes from N(0, 1 / channels), and the layer from N(0, 1 / (3 · channels)).

        The variances are those of the authors' code (github.com/youngsheen/SimVQ) and vector-quantize-pytorch. As in
        the paper, and unlike the authors' code, the layer has no bias. With a larger variance, most codes stay unused.
        """
        self.base.copy_(torch.randn(self.base.shape, generator=generator) / math.sqrt(self.channels))
        self.weight.copy_(torch.randn(self.weight.shape, generator=generator) / math.sqrt(3 * self.channels))
