"""Student's t likelihood."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from convae.core.arguments import PositiveFloat
from convae.core.types import AnyImages, Images
from convae.model.likelihoods.base import Link, LocationScaleHead, LocationScaleLikelihood, uniform_like


@dataclass(frozen=True)
class StudentTLikelihood(LocationScaleLikelihood):
    """Independent Student's t distribution of each pixel value.

    Attributes:
        degrees: degrees of freedom, ν.
    """

    degrees: float

    def sample(self, generator: torch.Generator | None = None) -> Images:
        """Draws values, clamped to [0, 1]."""
        # Bailey 1994 (doi:10.1090/S0025-5718-1994-1219703-2): the Box-Muller transform with another radius.
        tiny = torch.finfo(self.location.dtype).tiny
        u = uniform_like(self.location, generator).clamp_min(tiny)
        angle = 2 * math.pi * uniform_like(self.location, generator)
        radius = (self.degrees * torch.expm1(-2 / self.degrees * u.log())).sqrt()
        return (self.location + self.log_scale.exp() * radius * angle.cos()).clamp(0, 1)

    def log_prob_values(self, x: AnyImages) -> Images:
        """Log density, nats; it may be positive."""
        half = 0.5 * self.degrees
        scaled = self.deviations(x) * torch.exp(-self.log_scale)
        constant = math.lgamma(half + 0.5) - math.lgamma(half) - 0.5 * math.log(math.pi * self.degrees)
        return constant - self.log_scale - (half + 0.5) * torch.log1p(scaled.square() / self.degrees)


class StudentT(LocationScaleHead):
    """Student's t likelihood: an outlier costs the logarithm of its distance (Takahashi et al. 2018).

    doi:10.24963/ijcai.2018/374. Between the Gaussian (many degrees of freedom) and the Cauchy distribution (1).

    Args:
        degrees: of freedom, ν.
        scale: the fixed scale in image units (1 is white), `learned` for one of the whole model, or `pixel` for one of
            each value from the decoder, which then gives twice the image's channels.
        link: link from a raw value to the location.
    """

    example: ClassVar = {"scale": "pixel"}
    # A third of one of 256 levels.
    lowest_log_scale: ClassVar = -6.6
    # A fifth of the range.
    first_log_scale: ClassVar = -1.6

    def __init__(
        self,
        *,
        degrees: PositiveFloat = 3.0,
        scale: PositiveFloat | Literal["learned", "pixel"] = 0.1,
        link: Link = "sigmoid",
    ) -> None:
        super().__init__(scale=scale, link=link)
        self.degrees = degrees

    def forward(self, raw: Tensor) -> StudentTLikelihood:
        """Raw values to the likelihood."""
        return StudentTLikelihood(*self.located(raw), self.degrees)
