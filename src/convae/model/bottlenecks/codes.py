"""Bottleneck of codes: a quantizer between encoder and decoder."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from convae.core.arguments import Named, Positive
from convae.core.context import Context
from convae.core.device import is_on_meta
from convae.core.posterior import CodePosterior
from convae.core.types import Latents, Shape
from convae.model.bottlenecks._head import HeadBottleneck
from convae.model.quantizers.base import CodeIndices, QuantizerEntry, build_quantizer


class Codes(HeadBottleneck):
    """Codes of a quantizer: each position of a latent map, or a latent vector as a whole, becomes a code.

    The head, a linear layer for vectors and a 1×1 convolution for maps, maps features to the quantizer's channels. The
    KL divergence from the uniform prior over codes is constant. A quantizer's name is short for it: `{vq: {codes: 512,
    latent: 64}}` is `{codes: {latent: 64, quantizer: {vq: {codes: 512}}}}`.

    The default prior is uniform over codes at each position, so its samples have no global structure; `convae prior RUN
    transformer` fits an autoregressive prior over codes.

    Args:
        shape: (channels, *sizes) of the encoder's features.
        latent: dimension of a code; by default the quantizer's own where its arguments decide it, as those of `fsq`
            do, and without a head the feature channels.
        head: whether to map features to the codes' dimension with a linear layer.
        quantizer: maps values to codes.
    """

    example: ClassVar = {"latent": 3, "quantizer": {"vq": {"codes": 4}}}
    default_prior: ClassVar[Named] = "uniform-codes"
    is_discrete = True
    is_diagonal = False

    def __init__(
        self, shape: Shape, *, latent: Positive | None = None, head: bool = True, quantizer: QuantizerEntry
    ) -> None:
        super().__init__()
        made = build_quantizer(quantizer, latent if head or latent else shape[0])
        self.latent_shape = (made.channels, *shape[1:])
        self._make_head(shape, made.channels, head, f"codes of {made.channels}")
        self.quantizer = made
        if not is_on_meta():
            self.reset()

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes of each level of the quantizer."""
        return self.quantizer.codebook_sizes

    def embed_codes(self, codes: CodeIndices) -> Latents:
        """Code indices, (batch, *grid) or (batch, level, *grid), to latents, (batch, channel, *grid)."""
        return self.quantizer.embed_codes(codes)

    def nearest_codes(self, z: Latents) -> CodeIndices:
        """The nearest code indices to latents, (batch, *latent)."""
        return self.quantizer.posterior(z).codes

    def posterior(self, features: Tensor) -> CodePosterior:
        """The codes of features, (batch, *features), in float32 or wider."""
        return self.quantizer.posterior(self.head_output(features))

    def forward(self, x: Tensor, context: Context | None = None) -> Latents:
        """Features to code vectors; reports the terms of the quantizer."""
        return self.from_head(self.head_output(x), context)

    def from_head(self, values: Tensor, context: Context | None = None) -> Latents:
        """Vectors in the codes' space to code vectors; reports the terms of the quantizer."""
        latent: Latents = self.quantizer(values, context, self.stream)
        return latent

    def nearest_latents(self, z: Latents) -> Latents:
        """The nearest code vector at each position of the latents."""
        return self.quantizer.posterior(z).mean

    def rescale_usage(self, batch_size: int) -> None:
        """Adapts usage statistics of the codebooks to a global batch size; see `Quantizer.rescale_usage`."""
        self.quantizer.rescale_usage(batch_size * math.prod(self.latent_shape[1:]))

    @torch.no_grad()
    def reset(self, generator: torch.Generator | None = None) -> None:
        """Initializes the quantizer and the head."""
        self.quantizer.reset(generator)
        super().reset(generator)
