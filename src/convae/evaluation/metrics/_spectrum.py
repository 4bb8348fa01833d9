"""Base class of slopes of power spectra."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from jaxtyping import Float64
from torch import Tensor

from convae.evaluation.metrics.base import ImageMetric
from convae.evaluation.spectrum import log_log_slope, radial_power, relative_power
from convae.latents import EvalBatch

LEAST_SIZE = 4
"""Smallest spatial size with a slope."""


class SpectrumSlope(ImageMetric):
    """The exponent of a power law fitted to the radially averaged power spectrum: 0 of white noise."""

    unit: ClassVar[str] = "exponent"
    better: ClassVar = None
    default: ClassVar[bool] = False
    needs_whole_images: ClassVar[bool] = True

    def __init__(self) -> None:
        self._channels = 1

    @abstractmethod
    def maps(self, batch: EvalBatch) -> Tensor:
        """The maps of each image, (batch, channel, *sizes)."""

    def rows(self, batch: EvalBatch) -> Tensor:
        """(batch, channel · frequency): the power of each channel at each frequency."""
        power = radial_power(self.maps(batch))
        self._channels = power.shape[1]
        return power.flatten(1).double().cpu()

    def value(self, means: Float64[Tensor, "*some column"]) -> Float64[Tensor, "*some 1"]:
        """The slope of the mean spectrum."""
        return log_log_slope(relative_power(means, self._channels))[..., None]
