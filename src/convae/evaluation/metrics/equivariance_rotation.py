"""Equivariance error under rotation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor

from convae.evaluation.metrics._equivariance import EquivarianceMetric
from convae.model.vae import VAE


class EquivarianceRotation(EquivarianceMetric):
    """Error of decoding latents that are rotated by 90°, 180° and 270°, against the rotated images.

    ‖decode(τ z) − τ x‖² / ‖τ x − mean‖² over images and rotations τ in the plane of the last two axes; the posterior
    mean is z, and the mean is that of each channel of an image. A perfect model has 0, a model that decodes only means
    has 1; the error of reconstruction is included (EQ-VAE, Kouzelis et al. 2025, arXiv:2502.09509). Images that are not
    square are rotated by 180° only.
    """

    needs: ClassVar = "a single latent that is a map of two or more axes"

    def supports(self, model: VAE) -> bool:
        """Whether there are two axes to rotate."""
        return len(model.latent_shape) > 2

    def transformed(self, latents: Tensor, images: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Latents and images at each angle."""
        is_square = all(each.shape[-1] == each.shape[-2] for each in (latents, images))
        for turns in (1, 2, 3) if is_square else (2,):
            yield torch.rot90(latents, turns, (-2, -1)), torch.rot90(images, turns, (-2, -1))
