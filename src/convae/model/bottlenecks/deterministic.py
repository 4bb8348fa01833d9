"""Deterministic bottleneck."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from convae.core.arguments import Positive
from convae.core.context import Context
from convae.core.device import is_on_meta
from convae.core.errors import ConfigError
from convae.core.precision import at_least_float32
from convae.core.types import Shape
from convae.model.bottlenecks._head import HeadBottleneck
from convae.model.posteriors.deterministic import DeterministicPosterior


class Deterministic(HeadBottleneck):
    """A latent without noise: the model is an autoencoder (Ghosh et al. 2020, arXiv:1903.12436; WAE, arXiv:1711.01558).

    It has no KL divergence and no ELBO: `kl` cannot be a term, and terms that act on the latents take its place. What
    the prior samples is only as good as they hold the latents to it; a prior fitted after training needs none of them.

    The head is a linear layer for vectors and a 1×1 convolution for maps; without it, the features are the latent.

    Args:
        shape: (channels, *sizes) of the encoder's features.
        latent: latent dimension, or latent channels of a map; by default, without a head, the feature channels.
        head: whether to map features to the latent with a linear layer.
    """

    example: ClassVar = {"latent": 3}
    is_diagonal = False
    has_density = False

    def __init__(self, shape: Shape, *, latent: Positive | None = None, head: bool = True) -> None:
        super().__init__()
        if latent is None:
            if head:
                raise ConfigError("'latent' is missing. Give the latent dimension")
            latent = shape[0]
        self.latent_shape = (latent, *shape[1:])
        self._make_head(shape, latent, head, f"latent: {latent}")
        if not is_on_meta():
            self.reset()

    def posterior(self, features: Tensor) -> DeterministicPosterior:
        """The latent of features, (batch, *features), in float32 or wider."""
        return DeterministicPosterior(at_least_float32(self.head_output(features)))

    def from_head(self, values: Tensor, context: Context | None = None) -> Tensor:
        """The latent, reported to the context."""
        return (context or Context()).draw_latent(self.stream, DeterministicPosterior(at_least_float32(values)))
