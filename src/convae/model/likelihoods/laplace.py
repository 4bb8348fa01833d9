"""Laplace likelihood."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from convae.core.types import AnyImages, Images
from convae.model.likelihoods.base import LocationScaleHead, LocationScaleLikelihood, uniform_like

_LOG_TWO = math.log(2)


@dataclass(frozen=True)
class LaplaceLikelihood(LocationScaleLikelihood):
    """Independent Laplace distribution of each pixel value, with the mean absolute deviation as the scale."""

    def sample(self, generator: torch.Generator | None = None) -> Images:
        """Draws Laplace values, clamped to [0, 1]."""
        centered = uniform_like(self.location, generator) - 0.5
        # -log of a number in (0, 1] is exponential; the sign of the other half of the bits chooses the side.
        distance = -torch.log1p(-2 * centered.abs().clamp_max(0.5 - torch.finfo(centered.dtype).eps))
        return (self.location + self.log_scale.exp() * centered.sign() * distance).clamp(0, 1)

    def log_prob_values(self, x: AnyImages) -> Images:
        """−|x − location| / b − log 2b, nats; a density, so it may be positive."""
        scaled = self.deviations(x).abs() * torch.exp(-self.log_scale)
        return -scaled + -self.log_scale - _LOG_TWO


class Laplace(LocationScaleHead):
    """Laplace likelihood: absolute error, in nats; more robust to outliers than the Gaussian.

    With a fixed scale b, −log p = Σ|x − mean| / b + constant.

    Args:
        scale: the fixed scale b in image units (1 is white), `learned` for one of the whole model, or `pixel` for one
            of each value from the decoder, which then gives twice the image's channels.
        link: link from a raw value to the location.
    """

    example: ClassVar = {"scale": "pixel"}
    # A third of one of 256 levels.
    lowest_log_scale: ClassVar = -6.6
    # A fifth of the range.
    first_log_scale: ClassVar = -1.6

    def forward(self, raw: Tensor) -> LaplaceLikelihood:
        """Raw values to the likelihood."""
        return LaplaceLikelihood(*self.located(raw))
