"""Statistics of latents for models that are trained on them: mean and standard deviation, also by channel."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from convae.core.types import Shape
from convae.latents.encoding import Encoding


class Moments:
    """Running mean and variance of latents, in float64 (Chan, Golub & LeVeque 1979).

    Args:
        shape: of one latent.
    """

    def __init__(self, shape: Shape) -> None:
        self._images = 0
        self._places = math.prod(shape[1:])
        self._mean = torch.zeros(shape[0], dtype=torch.float64)
        self._squares = torch.zeros_like(self._mean)
        self._variance = torch.zeros_like(self._mean)

    def add(self, part: Encoding) -> None:
        """Adds posteriors."""
        self.add_moments(part.mean, part.logvar.double().exp())

    def add_moments(self, means: Tensor, variances: Tensor) -> None:
        """Adds posteriors with these means and variances, (image, *latent) each."""
        values, spread = _by_channel(means), _by_channel(variances)
        before, here = self._images * self._places, values.shape[1]
        mean = values.mean(1)
        step = mean - self._mean
        self._squares += (values - mean[:, None]).square().sum(1) + step.square() * before * here / (before + here)
        self._mean += step * here / (before + here)
        self._variance += (spread.mean(1) - self._variance) * here / (before + here)
        self._images += len(means)

    def drawn_by_channel(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of drawn latents, for each channel."""
        variances = self._squares / max(self._images * self._places - 1, 1) + self._variance
        return self._mean.tolist(), variances.sqrt().tolist()

    def describe(self, is_mean_expected: bool = True) -> dict[str, Any]:
        """Statistics for the manifest: of the posterior means, and the standard deviation of posterior samples.

        Latents times `scaling_factor` have a standard deviation of 1; None if all latents are equal.

        Args:
            is_mean_expected: whether the posterior means are the expectations of samples; otherwise nothing is said of
                samples.
        """
        count = self._images * self._places
        channels = self._squares / max(count - 1, 1)
        mean = float(self._mean.mean())
        between = float((self._mean - mean).square().sum()) * count
        total = (float(self._squares.sum()) + between) / max(count * len(self._mean) - 1, 1)
        deviation = math.sqrt(total)
        return {
            "images": self._images,
            "of": "posterior means",
            "mean": mean,
            "std": deviation,
            "scaling_factor": 1 / deviation if deviation else None,
            "drawn_std": math.sqrt(total + float(self._variance.mean())) if is_mean_expected else None,
            "channel_mean": self._mean.tolist(),
            "channel_std": channels.sqrt().tolist(),
        }


def _by_channel(values: Tensor) -> Tensor:
    """(channel, image · place), in float64."""
    return values.transpose(0, 1).flatten(1).double()
