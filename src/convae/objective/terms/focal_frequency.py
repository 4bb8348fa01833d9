"""Focal frequency loss."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from convae.core.arguments import NonNegativeFloat
from convae.core.precision import at_least_float32
from convae.core.types import PerImage
from convae.objective.terms.base import LossInputs, Term


class FocalFrequency(Term):
    """Focal frequency loss (Jiang, Dai, Wu & Loy 2021, arXiv:2012.12821).

    Mean over channels and frequencies of the squared distance between the orthonormal spectra of image and
    reconstruction, each weighted by that distance to the power of `alpha`, relative to the largest of the channel. The
    weights have no gradient.

    Args:
        alpha: focus on poorly matched frequencies; 0 gives the mean squared error.
    """

    unit: ClassVar = "squared image units"

    def __init__(self, *, alpha: NonNegativeFloat = 1.0) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, inputs: LossInputs) -> PerImage:
        """The weighted spectral distance of each image."""
        axes = tuple(range(2, inputs.images.ndim))
        difference = torch.fft.fftn(at_least_float32(inputs.reconstruction - inputs.images), dim=axes, norm="ortho")
        distance: Tensor = difference.real.square() + difference.imag.square()
        weight = distance.detach().pow(self.alpha / 2)
        weight = weight / weight.amax(axes, keepdim=True).clamp_min(torch.finfo(weight.dtype).tiny)
        return (weight * distance).flatten(1).mean(1)
