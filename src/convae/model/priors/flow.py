"""A normalizing flow as the prior."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from convae.core.errors import ConfigError
from convae.core.noise import Generators, normal_like
from convae.core.posterior import LOG_TWO_PI
from convae.core.precision import at_least_float32
from convae.core.types import Latents, PerImage
from convae.model.bottlenecks.base import Bottleneck
from convae.model.flows.base import FlowEntry, build_flow
from convae.model.priors.base import Prior


class FlowPrior(Prior):
    """Normalizing flow from standard normal noise to latents, trained with the model (Huang et al. 2017).

    The KL divergence from it is estimated at the drawn latents. It starts close to N(0, 1).

    Args:
        bottleneck: of the model, with a continuous latent.
        transform: the flow: `coupling` for vectors and maps; `maf` for vectors and small maps, whose samples take a
            pass for each latent value.

    Raises:
        ConfigError: the bottleneck has codes, or the density of the flow takes one pass for each latent value.
    """

    example: ClassVar = {"transform": {"coupling": {"steps": 2, "hidden": 8}}}

    def __init__(self, bottleneck: Bottleneck, *, transform: FlowEntry = "coupling") -> None:
        super().__init__(bottleneck)
        if bottleneck.is_discrete:
            raise ConfigError("a flow needs a continuous latent. Use the prior transformer for codes")
        self.flow = build_flow(transform, self.latent_shape)
        if not self.flow.has_parallel_inverse:
            raise ConfigError("the flow of a prior needs a fast density. Use coupling or maf")

    def sample(
        self,
        count: int,
        noise: Generators | None = None,
        labels: Tensor | None = None,
        temperature: float = 1.0,
    ) -> Latents:
        """Latents, (count, *latent), of normal noise with `temperature` as its standard deviation."""
        u = temperature * normal_like(at_least_float32(self.like.new_empty(count, *self.latent_shape)), noise)
        z: Latents = self.flow(u)[0]
        return z.to(self.like.dtype)

    def log_prob(self, z: Latents) -> PerImage:
        """Log p(z), nats, differentiable."""
        u, log_det = self.flow.inverse(z)
        return log_det - 0.5 * (u.square() + LOG_TWO_PI).flatten(1).sum(1)

    def reset(self, generator: torch.Generator | None = None) -> None:
        """Initializes the flow close to the identity."""
        self.flow.reset(generator)
