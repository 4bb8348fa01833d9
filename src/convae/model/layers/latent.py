"""A latent of a hierarchy, sampled inside the decoder."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from convae.core.arguments import Positive
from convae.core.context import Context, LatentModule
from convae.core.description import LayerList
from convae.core.errors import ShapeError
from convae.core.names import shape_text
from convae.core.noise import normal_like
from convae.core.posterior import GaussianPosterior
from convae.core.precision import at_least_float32
from convae.core.types import Shape
from convae.model.layers.base import ContextLayer, Network
from convae.model.layers.base.features import feature_shape

MAX_LOGVAR = 10.0
"""Bound of the log-variance of the prior, and of its difference from that of the posterior: σ within e^±5."""
HEAD_INIT_SCALE = 0.1
"""Factor on the initial weights of the heads: prior and posterior start close to each other and to N(0, 1)."""
NO_LAYERS: list[Any] = []


class Latent(LatentModule, ContextLayer):
    """A latent inside the decoder, with a prior that depends on the latents above it: one level of a hierarchy.

    As in ladder VAEs (Sønderby et al. 2016, arXiv:1602.02282; Child 2021, arXiv:2011.10650), the state x of the
    decoder gives the prior p(z | latents above), and x with a feature of the encoder the posterior. The posterior is
    relative to the prior (NVAE, Vahdat & Kautz 2020, arXiv:2007.03898):

        p = N(μ, σ²),  q = N(μ + Δμ, (σ Δσ)²),  output = x + projection(z)

    Args:
        shape: (channels, *sizes) of the state.
        channels: latent channels at each position.
        feature: name of a feature of the encoder (layer `feature`) with the state's sizes.
        prior: layers from the state to the prior; a 1×1 convolution follows, or a linear layer to a vector.
        posterior: layers from the state and the feature, concatenated along the channels, to the posterior; the same
            follows.

    Raises:
        ConfigError: no feature has that name.
        ShapeError: the feature or the output of a list has other sizes than the state.
    """

    example: ClassVar = {"channels": 2, "feature": "example"}
    over_positions: ClassVar = True  # its noise covers the entire image, so it is not computed in slices
    keeps_shape: ClassVar = True

    def __init__(
        self,
        shape: Shape,
        *,
        channels: Positive,
        feature: str,
        prior: LayerList = NO_LAYERS,
        posterior: LayerList = NO_LAYERS,
    ) -> None:
        super().__init__(shape)
        self.feature = feature
        self.latent_shape = (channels, *shape[1:])
        beside = feature_shape(feature, shape)
        self.prior = self._head(shape, prior, "prior", 2 * channels)
        self.posterior = self._head((shape[0] + beside[0], *shape[1:]), posterior, "posterior", 2 * channels)
        self.projection = self._head(self.latent_shape, NO_LAYERS, "projection", shape[0])

    def _head(self, shape: Shape, layers: Any, what: str, channels: int) -> Network:
        """Layers, then a 1×1 convolution or a linear layer to `channels`."""
        last = {"conv": {"channels": channels, "kernel": 1}} if len(shape) > 1 else {"linear": {"features": channels}}
        network = Network(shape, [*layers, last], what, init_scale=HEAD_INIT_SCALE)
        if network.shape_out[1:] != shape[1:]:
            raise ShapeError(
                f"{what}: changes {shape_text(shape)} to {shape_text(network.shape_out)}. Keep the sizes in its list"
            )
        return network

    def forward(self, x: Tensor, context: Context | None = None) -> Tensor:
        """The state, (batch, channel, *sizes), plus the projection of the latent; reports latent, posterior and `kl`.

        Without the feature in the context, as in decoding, the latent is given or comes from the prior.
        """
        context = context or Context()
        mean, logvar = self._gaussian(self.prior, x, context)
        feature = context.features.get(self.feature)
        if feature is None or context.latent_source == "prior":
            z = self._from_prior(mean, logvar, context)
            context.report_latent(self.stream, z)
        else:
            change, ratio = self._gaussian(self.posterior, torch.cat([x, feature], 1), context)
            posterior = GaussianPosterior(mean + change, logvar + ratio, mean, logvar)
            context.report_term("kl", posterior.kl())
            z = context.draw_latent(self.stream, posterior)
        return torch.add(x, self.projection(z.to(x.dtype), context))

    def _gaussian(self, network: Network, x: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        """Mean and bounded log-variance, (batch, channel, *sizes) each, in float32 or wider."""
        mean, logvar = at_least_float32(network(x, context)).chunk(2, dim=1)
        # A soft bound keeps a gradient everywhere.
        return mean, MAX_LOGVAR * torch.tanh(logvar / MAX_LOGVAR)

    def _from_prior(self, mean: Tensor, logvar: Tensor, context: Context) -> Tensor:
        """The given latent, a sample of the prior where the source says so, or the prior's mean."""
        if self.stream in context.given:
            given: Tensor = context.given[self.stream].to(mean.dtype)
            return given
        temperature = context.temperature_of(self.stream)
        if context.latent_source == "mean" or temperature == 0:
            return mean
        noise = normal_like(mean, context.noise_for(self.stream))
        return mean + temperature * torch.exp(0.5 * logvar) * noise
