"""Terms with a discriminator on the latent."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from convae.core.arguments import Positive, PositiveFloat
from convae.core.errors import ConfigError
from convae.core.posterior import JointPosterior
from convae.core.random import torch_generator
from convae.core.types import PerImage, Shape
from convae.objective.terms.base import NO_CODES, UNBOUND, LossInputs, Term

Beta = Annotated[float, Field(ge=0, lt=1)]
"""Decay of a running mean of Adam."""


class LatentCritic(Term):
    """A term with a discriminator on the latent: a network of linear layers with leaky ReLUs, and one output, a logit.

    Args:
        width: features of each hidden layer.
        layers: number of hidden layers.
        lr: learning rate of the discriminator, on the schedule of the model's.
        betas: of its Adam.
    """

    def __init__(self, width: Positive, layers: Positive, lr: PositiveFloat, betas: tuple[Beta, Beta]) -> None:
        super().__init__()
        self.width, self.layers = width, layers
        self.critic_optimizer: dict[str, Any] = {"lr": lr, "betas": betas, "weight_decay": 0.0}
        self._critic: tuple[nn.Sequential, ...] = ()

    def bind(self, latent_shape: Shape, image_shape: Shape) -> None:
        """Creates the discriminator."""
        size = math.prod(latent_shape)
        if not self._critic or next(self._critic[0].parameters()).shape[1] != size:
            self._critic = (_network([size, *[self.width] * self.layers, 1]),)

    @property
    def critic(self) -> nn.Module | None:
        """The discriminator, once the term is bound."""
        return next(iter(self._critic), None)

    def latents(self, inputs: LossInputs) -> Tensor:
        """(row, value): the latents of a pass.

        Raises:
            ConfigError: they are codes, or several.
        """
        posterior = inputs.output.posterior
        if isinstance(posterior, JointPosterior):
            raise ConfigError("needs a model with one latent. Use kl")
        if posterior.is_discrete:
            raise ConfigError(NO_CODES)
        return inputs.output.latent.flatten(1)

    def logits(self, latents: Tensor) -> PerImage:
        """The logit of each latent, (row,), in the type of the latents.

        Raises:
            ConfigError: the term is not bound.
        """
        if not self._critic:
            raise ConfigError(UNBOUND)
        weight = next(self._critic[0].parameters())
        found: PerImage = self._critic[0](latents.to(weight.device, weight.dtype))[:, 0].to(latents.dtype)
        return found


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
