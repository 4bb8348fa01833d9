"""Gradient penalty of the decoder."""

from __future__ import annotations

from typing import ClassVar

import torch

from convae.core.joint_posterior import JointPosterior
from convae.core.types import PerImage
from convae.objective.terms._jacobian import squared_jacobian_norm
from convae.objective.terms.base import LossInputs, Term


class DecoderGradient(Term):
    """Squared Frobenius norm of the Jacobian of the decoder's mean image with respect to the latent.

    The gradient penalty of RAE-GP (Ghosh et al. 2020, arXiv:1903.12436): smooth decoders. Estimated with one random
    probe for each image; its gradient passes through the decoder twice.
    """

    unit: ClassVar = "squared image units per squared latent unit"

    def forward(self, inputs: LossInputs) -> PerImage:
        """The estimate of each image."""
        noise = inputs.calls.noise("decoder-gradient")
        z = inputs.output.latent
        if z.requires_grad and not isinstance(inputs.output.posterior, JointPosterior):
            return squared_jacobian_norm(inputs.reconstruction, z, noise)
        with torch.enable_grad():
            leaf = z.detach().requires_grad_()
            mean = inputs.calls.decode(leaf).mean
        return squared_jacobian_norm(mean, leaf, noise)
