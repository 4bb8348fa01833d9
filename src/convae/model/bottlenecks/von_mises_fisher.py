"""Von Mises-Fisher bottleneck."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from convae.core.arguments import Named
from convae.core.device import is_on_meta
from convae.core.errors import ShapeError
from convae.core.names import shape_text
from convae.core.precision import at_least_float32, with_gradient_of
from convae.core.types import Latents, Shape
from convae.model.bottlenecks._head import project
from convae.model.bottlenecks.base import Bottleneck
from convae.model.posteriors.von_mises_fisher import VonMisesFisherPosterior

MAX_CONCENTRATION = 10_000.0
"""Largest allowed bound of κ: angles to the mean direction are then about 0.01 √D."""


class VonMisesFisher(Bottleneck):
    """Latents on the unit sphere, with a von Mises-Fisher posterior and the uniform prior (Davidson et al. 2018).

    Hyperspherical VAE, arXiv:1804.00891: a linear layer maps features to the mean direction, which is normalized, and
    to κ = softplus + `min_concentration`. The prior has no center that would pull latents together, so that data that
    winds around keeps its shape; it suits few dimensions. The posterior mean that tools use is the mean direction, and
    interpolations follow great circles.

    Args:
        shape: (values,) of the encoder's features.
        latent: number of values of a unit vector: 8 for the sphere S⁷.
        min_concentration: smallest κ; 1 keeps posteriors from collapsing to the prior, as in the authors' code.
        max_concentration: largest κ.
    """

    example: ClassVar = {"latent": 3}
    default_prior: ClassVar[Named] = "uniform-sphere"
    is_diagonal = False
    is_spherical = True
    is_mean_expected = False

    def __init__(
        self,
        shape: Shape,
        *,
        latent: Annotated[int, Field(ge=2, le=4096)],
        min_concentration: Annotated[float, Field(ge=0, le=MAX_CONCENTRATION)] = 1.0,
        max_concentration: Annotated[float, Field(gt=0, le=MAX_CONCENTRATION)] = MAX_CONCENTRATION,
    ) -> None:
        super().__init__()
        if len(shape) > 1:
            raise ShapeError(f"expected a feature vector, got {shape_text(shape)}. End the encoder with flatten")
        self.latent_shape = (latent,)
        self.min_concentration, self.max_concentration = min_concentration, max_concentration
        self.weight = nn.Parameter(torch.empty(latent + 1, shape[0]))
        self.bias = nn.Parameter(torch.empty(latent + 1))
        if not is_on_meta():
            self.reset()

    def posterior(self, features: Tensor) -> VonMisesFisherPosterior:
        """Posterior q(z | x) of features, (batch, features), in float32 or wider."""
        values = at_least_float32(project(features, self.weight, self.bias))
        raw = self.min_concentration + F.softplus(values[:, -1])
        # Clamped values keep their gradient, so that they can return to the range.
        concentration = with_gradient_of(raw.clamp_max(self.max_concentration), raw)
        return VonMisesFisherPosterior(F.normalize(values[:, :-1], dim=1), concentration)

    def nearest_latents(self, z: Latents) -> Latents:
        """The nearest points of the sphere."""
        return F.normalize(z, dim=1)

    @torch.no_grad()
    def reset(self, generator: torch.Generator | None = None) -> None:
        """Initializes the head, with κ near the latent dimension: drawn latents then tell their mean direction."""
        self.weight.copy_(torch.randn(self.weight.shape, generator=generator) / math.sqrt(self.weight.shape[1]))
        self.bias.zero_()
        self.bias[-1] = self.latent_shape[0]
