"""Contractive encoder."""

from __future__ import annotations

from typing import ClassVar

import torch

from convae.core.errors import ConfigError
from convae.core.types import PerImage
from convae.objective.terms._jacobian import squared_jacobian_norm
from convae.objective.terms.base import NO_CODES, LossInputs, Term


class Contractive(Term):
    """Squared Frobenius norm of the Jacobian of the posterior mean with respect to the image (Rifai et al. 2011).

    Contractive autoencoders, ICML 2011: latents that change little with the image. Estimated with one random probe for
    each image; the encoder runs once more, and its gradient passes through it twice.
    """

    unit: ClassVar = "squared latent units per squared image unit"

    def forward(self, inputs: LossInputs) -> PerImage:
        """The estimate of each image."""
        if inputs.output.posterior.is_discrete:
            raise ConfigError(NO_CODES)
        with torch.enable_grad():
            images = inputs.values.detach().requires_grad_()
            posterior = inputs.calls.encode(images)
        return squared_jacobian_norm(posterior.mean, images, inputs.calls.noise("contractive"))
