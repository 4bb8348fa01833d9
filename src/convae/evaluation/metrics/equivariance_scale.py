"""Equivariance error under scaling."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from convae.evaluation.metrics._equivariance import EquivarianceMetric
from convae.model.vae import VAE


class EquivarianceScale(EquivarianceMetric):
    """Error of decoding latents at half the size, against images at half the size.

    ‖decode(τ z) − τ x‖² / ‖τ x − mean‖² over images, where τ averages pairs of neighbors along each axis; the posterior
    mean is z, and the mean is that of each channel of an image. A perfect model has 0, a model that decodes only means
    has 1; the error of reconstruction is included (EQ-VAE, Kouzelis et al. 2025, arXiv:2502.09509).
    """

    needs: ClassVar = "a single latent that is a map of even sizes, and layers that take images of other sizes"

    def supports(self, model: VAE) -> bool:
        """Whether the model decodes latents of half the size."""
        if model.size_step is None:
            return False
        sizes = zip(model.input_shape[1:], model.latent_shape[1:], model.size_step, strict=True)
        return all(size == own * step and own % 2 == 0 for size, own, step in sizes)

    def transformed(self, latents: Tensor, images: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Latents and images at half the size."""
        yield _halved(latents), _halved(images)


def _halved(values: Tensor) -> Tensor:
    pool = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[values.ndim - 3]
    return pool(values, 2)
