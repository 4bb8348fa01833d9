"""Discretized logistic likelihood."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from convae.core.arguments import PositiveFloat
from convae.core.types import AnyImages, Images
from convae.model.likelihoods.base import (
    Link,
    LocationScaleHead,
    LocationScaleLikelihood,
    require_images_like,
    uniform_like,
)


@dataclass(frozen=True)
class DiscretizedLogisticLikelihood(LocationScaleLikelihood):
    """Independent discretized logistic distribution of each pixel value over the levels 0, 1/(n−1), …, 1.

    Attributes:
        levels: n, number of levels.
    """

    levels: int

    def sample(self, generator: torch.Generator | None = None) -> Images:
        """Draws a level for each value."""
        tiny = torch.finfo(self.location.dtype).eps
        uniform = uniform_like(self.location, generator).clamp(tiny, 1 - tiny)
        drawn = self.location + self.log_scale.exp() * torch.logit(uniform)
        return (drawn * (self.levels - 1)).round().clamp(0, self.levels - 1) / (self.levels - 1)

    def log_prob_values(self, x: AnyImages) -> Images:
        """Log-probability of the level of each value, nats; the end levels take the tails.

        With u and l the standardized upper and lower edge of the level, the mass σ(u) − σ(l) equals
        σ(u)·σ(−l)·(1 − e^(l−u)), whose logarithm is stable for any distance from the location.
        """
        x = require_images_like(x, self.location)
        half = 0.5 / (self.levels - 1)
        inverse = torch.exp(-self.log_scale)
        centered = x - self.location
        upper = (centered + half) * inverse
        lower = (centered - half) * inverse
        width = 2 * half * inverse
        inner = F.logsigmoid(upper) + F.logsigmoid(-lower) + torch.log(-torch.expm1(-width))
        first, last = x < half, x > 1 - half
        return torch.where(first, F.logsigmoid(upper), torch.where(last, F.logsigmoid(-lower), inner))


class DiscretizedLogistic(LocationScaleHead):
    """Discretized logistic likelihood (Kingma et al. 2016, arXiv:1606.04934).

    A probability mass of 8-bit images: nats and bits per dimension are comparable between models.

    Args:
        scale: the fixed scale in image units (1 is white), `learned` for one of the whole model, or `pixel` for one of
            each value from the decoder, which then gives twice the image's channels.
        levels: number of levels of a pixel value.
        link: link from a raw value to the location.
    """

    levels: int
    example: ClassVar = {"scale": "pixel"}
    # A quarter of one of 256 levels.
    lowest_log_scale: ClassVar = -7.0
    # A tenth of the range.
    first_log_scale: ClassVar = -2.3

    def __init__(
        self,
        *,
        scale: PositiveFloat | Literal["learned", "pixel"] = "learned",
        levels: Annotated[int, Field(ge=2, le=65536)] = 256,
        link: Link = "sigmoid",
    ) -> None:
        super().__init__(scale=scale, link=link)
        self.levels = levels

    def forward(self, raw: Tensor) -> DiscretizedLogisticLikelihood:
        """Raw values to the likelihood."""
        return DiscretizedLogisticLikelihood(*self.located(raw), self.levels)
