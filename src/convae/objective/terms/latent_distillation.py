"""Distillation of an encoder."""

from __future__ import annotations

from typing import ClassVar

import torch

from convae.core.errors import ConfigError
from convae.core.posterior import GaussianPosterior, Posterior, without_prior
from convae.core.precision import at_least_float32
from convae.core.types import PerImage
from convae.model.inputs import unchecked_values
from convae.model.vae import VAE
from convae.objective.terms._teacher import TeacherTerm
from convae.objective.terms.base import LossInputs


class LatentDistillation(TeacherTerm):
    """Distance of the posterior from that of a teacher, the model of `start`, frozen.

    For diagonal Gaussians, the KL divergence of q(z | x) of the model from that of the teacher, nats; for codes and
    latents of an autoencoder, the squared error of the latents, whose straight-through gradient draws vectors to the
    teacher's codes. `convae distill --part encoder` trains a smaller encoder with it.
    """

    unit: ClassVar = "nats, or squared latent units"

    def bind_teacher(self, teacher: VAE) -> None:
        """Sets the teacher.

        Raises:
            ConfigError: its latents or its images are not those of the model, or its posteriors have no distance here.
        """
        own = teacher.bottleneck
        if own.has_density and not own.is_diagonal and not own.is_discrete:
            raise ConfigError(
                "the posteriors of the teacher are no diagonal Gaussians, and their means alone say nothing of the "
                "spread of latents. Use a teacher without a full covariance, a flow or latents on the sphere"
            )
        super().bind_teacher(teacher)

    def forward(self, inputs: LossInputs) -> PerImage:
        """The distance of each image."""
        own, target = without_prior(inputs.output.posterior), self._target(inputs)
        if isinstance(own, GaussianPosterior) and isinstance(target, GaussianPosterior):
            mean, logvar = at_least_float32(own.mean), at_least_float32(own.logvar)
            ratio = (target.logvar - logvar).exp() + (mean - target.mean).square() * (-logvar).exp()
            return 0.5 * (ratio - 1 + logvar - target.logvar).flatten(1).sum(1)
        latent = inputs.output.latent if own.is_discrete else own.mean
        return (latent - target.mean).square().flatten(1).sum(1)

    @torch.no_grad()
    def _target(self, inputs: LossInputs) -> Posterior:
        """The posterior of the teacher, a row for each latent."""
        with unchecked_values():
            return without_prior(self.teacher.encode(inputs.images, inputs.labels))
