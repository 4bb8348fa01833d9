"""Terms with a discriminator on the latent."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from convae.core.arguments import Positive, PositiveFloat
from convae.core.random import torch_generator
from convae.core.types import PerImage, Shape
from convae.objective.terms._latents import latents_of
from convae.objective.terms.base import Critic, CriticTerm, LossInputs

Beta = Annotated[float, Field(ge=0, lt=1)]
"""Decay of a running mean of Adam."""


class LatentCritic(Critic):
    """A discriminator on the latent: linear layers with leaky ReLUs, and one output, a logit.

    Args:
        sizes: number of features, from the latent to the output.
        optimizer: options of its optimizer.
    """

    def __init__(self, sizes: list[int], optimizer: dict[str, Any]) -> None:
        super().__init__()
        self.optimizer = optimizer
        self.latent_size = sizes[0]
        self.network = _network(sizes)

    def forward(self, latents: Tensor) -> PerImage:
        """The logit of each latent, (row,), in the type of the latents."""
        weight = next(self.network.parameters())
        found: PerImage = self.network(latents.to(weight.device, weight.dtype))[:, 0].to(latents.dtype)
        return found


class LatentCriticTerm(CriticTerm[LatentCritic]):
    """A term with a discriminator on the latent.

    Args:
        width: features of each hidden layer.
        layers: number of hidden layers.
        lr: learning rate of the discriminator, on the schedule of the model's.
        betas: of its Adam.
    """

    critic_class: ClassVar[type[LatentCritic]]

    def __init__(self, width: Positive, layers: Positive, lr: PositiveFloat, betas: tuple[Beta, Beta]) -> None:
        super().__init__()
        self.hidden = [width] * layers
        self.optimizer: dict[str, Any] = {"name": {"adam": {"betas": betas}}, "lr": lr, "weight_decay": 0.0}

    def bind(self, latent_shape: Shape, image_shape: Shape) -> None:
        """Creates the discriminator."""
        size = math.prod(latent_shape)
        if self.critic is None or self.critic.latent_size != size:
            self.hold(self.critic_class([size, *self.hidden, 1], self.optimizer))

    def logits(self, inputs: LossInputs) -> PerImage:
        """The logit of each latent, (row,).

        Raises:
            ConfigError: the term is not bound, or the latents are codes, or several.
        """
        logits: PerImage = self.bound_critic(latents_of(inputs))
        return logits


@torch.no_grad()
def _network(sizes: list[int]) -> nn.Sequential:
    """Linear layers with leaky ReLUs between them, with weights that depend on the sizes only."""
    layers: list[nn.Module] = []
    for number, (size, features) in enumerate(pairwise(sizes)):
        linear = nn.Linear(size, features)
        generator = torch_generator(0, "discriminator", number)
        linear.weight.copy_(torch.randn(linear.weight.shape, generator=generator) * math.sqrt(2 / size))
        linear.bias.zero_()
        layers += [linear, nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers[:-1])
