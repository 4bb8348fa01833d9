"""Adversarial autoencoder."""

from __future__ import annotations

from typing import ClassVar

from torch.nn import functional as F

from convae.core.arguments import Positive, PositiveFloat
from convae.core.types import PerImage
from convae.objective.terms._latent_critic import Beta, LatentCritic, LatentCriticTerm
from convae.objective.terms._latents import latents_of
from convae.objective.terms.base import LossInputs


class PriorCritic(LatentCritic):
    """Tells samples of the prior from latents."""

    def loss(self, inputs: LossInputs) -> PerImage:
        """Cross-entropy of samples of the prior and of latents."""
        z = latents_of(inputs)
        prior = inputs.calls.sample_prior().flatten(1).to(z)
        return F.softplus(-self(prior)) + F.softplus(self(z))


class LatentAdversarial(LatentCriticTerm):
    """Adversarial loss of the latents against samples of the prior (Makhzani et al. 2016, arXiv:1511.05644).

    Adversarial autoencoder: in place of `kl`, with any bottleneck that has no codes. The encoder is trained to make
    latents that a discriminator takes for samples of the prior, −log D(z); the discriminator has its own optimizer, and
    a step after that of the model.

    Args:
        width: features of each hidden layer of the discriminator.
        layers: number of its hidden layers.
        lr: learning rate of the discriminator, on the schedule of the model's.
        betas: of its Adam.
    """

    unit: ClassVar = "nats"
    regularizes_posterior: ClassVar = True
    example: ClassVar = {"width": 16, "layers": 2}
    critic_class: ClassVar = PriorCritic

    def __init__(
        self,
        *,
        width: Positive = 256,
        layers: Positive = 2,
        lr: PositiveFloat = 1e-3,
        betas: tuple[Beta, Beta] = (0.5, 0.999),
    ) -> None:
        super().__init__(width, layers, lr, betas)

    def forward(self, inputs: LossInputs) -> PerImage:
        """−log D(z) of each latent."""
        return F.softplus(-self.logits(inputs))
