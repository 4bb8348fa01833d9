"""Base class of equivariance errors."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import ClassVar

import torch
from jaxtyping import Float64
from torch import Tensor

from convae.data import Split
from convae.evaluation.metrics.base import ImageMetric
from convae.latents import EvalBatch
from convae.model.vae import VAE


class EquivarianceMetric(ImageMetric):
    """Mean squared error of decoded transformed latents, relative to the variance of the transformed images.

    ‖decode(τ z) − τ x‖² / ‖τ x − mean‖² over images and transformations τ, for the posterior mean z and the mean of
    each channel of each image: 0 is perfect; a plain mean of each image has 1. It includes the error of reconstruction.
    """

    unit: ClassVar[str] = "fraction of the variance"
    better: ClassVar = "lower"
    default: ClassVar[bool] = False
    needs_whole_images: ClassVar[bool] = True

    def applies(self, model: VAE, split: Split) -> bool:
        """Whether images and a single latent can be transformed alike."""
        is_map = not model.is_hierarchical and len(model.latent_shape) == len(model.input_shape) > 2
        return is_map and self.supports(model)

    @abstractmethod
    def supports(self, model: VAE) -> bool:
        """Whether a model with a latent map supports the transformations."""

    @abstractmethod
    def transformed(self, latents: Tensor, images: Tensor) -> Iterable[tuple[Tensor, Tensor]]:
        """Latents and images, (batch, channel, *sizes), under each transformation."""

    def rows(self, batch: EvalBatch) -> Tensor:
        """(batch, 2): the mean squared error, and the variance of the transformed image; means over transformations."""
        found = []
        for z, x in self.transformed(batch.posterior.mean, batch.images):
            error = batch.model.decode(z, batch.labels).mean - x
            centered = x - x.flatten(2).mean(2).reshape(*x.shape[:2], *[1] * (x.ndim - 2))
            found.append(torch.stack([each.square().flatten(1).double().mean(1) for each in (error, centered)], 1))
        return torch.stack(found).mean(0).cpu()

    def value(self, means: Float64[Tensor, "*some 2"]) -> Float64[Tensor, "*some 1"]:
        """The ratio of the means."""
        return means[..., :1] / means[..., 1:]
