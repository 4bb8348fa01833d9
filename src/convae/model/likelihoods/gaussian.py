"""Gaussian likelihood, with a fixed or a learned sigma."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from convae.core.arguments import PositiveFloat
from convae.core.types import AnyImages, Images, PerImage
from convae.model.likelihoods.base import Link, LocationScaleHead, LocationScaleLikelihood

_HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


@dataclass(frozen=True)
class GaussianLikelihood(LocationScaleLikelihood):
    """Independent normal distribution of each pixel value, with the standard deviation as the scale."""

    def sample(self, generator: torch.Generator | None = None) -> Images:
        """Draws normal values, clamped to [0, 1]."""
        device = self.location.device if generator is None else generator.device
        noise = torch.randn(self.location.shape, generator=generator, dtype=self.location.dtype, device=device)
        return (self.location + self.log_scale.exp() * noise.to(self.location.device)).clamp(0, 1)

    def log_prob_values(self, x: AnyImages) -> Images:
        """−(x − mean)² / 2σ² − log σ − ½ log 2π, nats; a density, so it may be positive."""
        scaled = self.deviations(x) * torch.exp(-self.log_scale)
        return -0.5 * scaled.square() + -self.log_scale - _HALF_LOG_TWO_PI

    def log_prob(self, x: AnyImages, weights: Tensor | None = None) -> PerImage:
        """As of every likelihood; one sigma of all values is applied to their sum, in a third of the passes."""
        if self.log_scale.ndim:
            return super().log_prob(x, weights)
        squares = self.deviations(x).square()
        count: Tensor | int = squares[0].numel()
        if weights is not None:
            squares, count = squares * weights, weights.expand_as(squares).flatten(1).sum(1)
        sums = squares.sum(list(range(1, squares.ndim)))
        return -0.5 * torch.exp(-2 * self.log_scale) * sums - (self.log_scale + _HALF_LOG_TWO_PI) * count


class Gaussian(LocationScaleHead):
    """Gaussian likelihood: squared error, in nats.

    With a fixed sigma, −log p = Σ(x − mean)² / 2σ² + constant: a σ of √½ weights the sum of squares by 1, a smaller σ
    more. One learned sigma for the whole model is the σ-VAE (Rybkin, Daniilidis & Levine 2021, arXiv:2006.13202),
    which balances reconstruction and KL automatically.

    Args:
        sigma: the fixed standard deviation in image units (1 is white), `learned` for one of the whole model, or
            `pixel` for one of each value from the decoder, which then gives twice the image's channels.
        link: link from a raw value to the mean.
    """

    example: ClassVar = {"sigma": "pixel"}
    # Less than one of 256 levels.
    lowest_log_scale: ClassVar = -6.0
    # A quarter: about the spread of a typical image's values around their mean.
    first_log_scale: ClassVar = math.log(0.25)

    def __init__(self, *, sigma: PositiveFloat | Literal["learned", "pixel"] = 0.1, link: Link = "sigmoid") -> None:
        super().__init__(scale=sigma, link=link)

    def forward(self, raw: Tensor) -> GaussianLikelihood:
        """Raw values to the likelihood."""
        return GaussianLikelihood(*self.located(raw))
