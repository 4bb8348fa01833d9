"""Total correlation by a discriminator."""

from __future__ import annotations

from typing import ClassVar

from torch.nn import functional as F

from convae.core.arguments import Positive, PositiveFloat
from convae.core.noise import normal_like
from convae.core.types import PerImage
from convae.objective.terms._latent_critic import Beta, LatentCritic, LatentCriticTerm
from convae.objective.terms._latents import latents_of
from convae.objective.terms.base import LossInputs


class ShuffledCritic(LatentCritic):
    """Tells latents from latents whose values are each shuffled over the batch."""

    def loss(self, inputs: LossInputs) -> PerImage:
        """Half the cross-entropy of latents and of shuffled ones."""
        z = latents_of(inputs)
        order = normal_like(z, inputs.calls.noise("factor")).argsort(0)
        return 0.5 * (F.softplus(-self(z)) + F.softplus(self(z.gather(0, order))))


class Factor(LatentCriticTerm):
    """Total correlation of the latents, by a discriminator (FactorVAE, Kim & Mnih 2018, arXiv:1802.05983).

    Beside `reconstruction` and `kl`; its weight is the paper's γ. The discriminator tells latents from latents whose
    values are each shuffled over the batch, and its logit is log q(z) − Σ log q(z_d). It has its own optimizer, and a
    step after that of the model on the latents of the same images. Compare `total-correlation`, which has none.

    Args:
        width: features of each hidden layer of the discriminator.
        layers: number of its hidden layers.
        lr: learning rate of the discriminator, on the schedule of the model's.
        betas: of its Adam.
    """

    unit: ClassVar = "nats"
    example: ClassVar = {"width": 16, "layers": 2}
    critic_class: ClassVar = ShuffledCritic

    def __init__(
        self,
        *,
        width: Positive = 1000,
        layers: Positive = 5,
        lr: PositiveFloat = 1e-4,
        betas: tuple[Beta, Beta] = (0.5, 0.9),
    ) -> None:
        super().__init__(width, layers, lr, betas)

    def forward(self, inputs: LossInputs) -> PerImage:
        """The logit of each latent."""
        return self.logits(inputs)
