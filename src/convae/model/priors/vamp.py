"""The VampPrior: the aggregate posterior of learned pseudo-inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from convae.core.errors import ConfigError
from convae.core.posterior import Posterior
from convae.core.types import Shape
from convae.model.bottlenecks.base import Bottleneck
from convae.model.priors._mixture import DiagonalMixture

MAX_INPUTS = 100_000
SPREAD = 0.5
"""Standard deviation of the initial pseudo-inputs before the sigmoid: images near gray that differ from each other."""


class Vamp(DiagonalMixture):
    """VampPrior: the mixture of the posteriors of K learned images (Tomczak & Welling 2018, arXiv:1705.07120).

    p(z) = 1/K Σ q(z | uₖ). The pseudo-inputs uₖ are trained with the model, through its encoder, which each step and
    each sample runs for all of them. The KL divergence from the mixture is estimated at the drawn latents.

    Args:
        bottleneck: of the model, with a Gaussian posterior.
        inputs: K, number of pseudo-inputs.

    Raises:
        ConfigError: the posteriors are not diagonal Gaussians.
    """

    example: ClassVar = {"inputs": 3}

    def __init__(self, bottleneck: Bottleneck, *, inputs: Annotated[int, Field(ge=1, le=MAX_INPUTS)] = 100) -> None:
        super().__init__(bottleneck)
        if bottleneck.is_discrete:
            raise ConfigError("the VampPrior needs a Gaussian posterior. Use the prior transformer for codes")
        if not bottleneck.is_diagonal:
            raise ConfigError(
                "the VampPrior needs the posteriors of the bottleneck gaussian with a diagonal covariance"
            )
        self.inputs = inputs
        self._encode: Callable[[Tensor], Posterior] | None = None

    def bind(self, encode: Callable[[Tensor], Posterior], input_shape: Shape) -> None:
        """Takes the model's encoder, and makes the pseudo-inputs of the shape of its images."""
        self._encode = encode
        if "pseudo" not in self._parameters:
            self.pseudo = nn.Parameter(torch.empty(self.inputs, *input_shape))
            self.reset()

    def images(self) -> Tensor:
        """The pseudo-inputs, (input, channel, *sizes), in [0, 1]."""
        return self.pseudo.sigmoid()

    def components(self) -> tuple[Tensor, Tensor, Tensor]:
        """The posteriors of the pseudo-inputs, with equal weights."""
        assert self._encode is not None  # the model binds its prior
        posterior = self._encode(self.images())
        mean, logvar = posterior.mean.flatten(1), posterior.logvar.flatten(1)
        return mean, logvar, mean.new_zeros(len(mean))

    @torch.no_grad()
    def reset(self, generator: torch.Generator | None = None) -> None:
        """Pseudo-inputs near gray."""
        if "pseudo" in self._parameters:
            self.pseudo.copy_(torch.randn(self.pseudo.shape, generator=generator) * SPREAD)
