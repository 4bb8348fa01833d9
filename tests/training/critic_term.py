"""A loss term with a network that trains against the model: a linear critic tells images from reconstructions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from convae.objective.terms.base import Critic, LossInputs, Term


class LinearCritic(Critic):
    """A linear critic."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 1)
        with torch.no_grad():
            self.linear.weight.copy_(torch.linspace(-0.1, 0.1, 64)[None])
            self.linear.bias.zero_()

    def forward(self, inputs: LossInputs) -> Tensor:
        """The value of an image minus that of its reconstruction."""
        value: Tensor = self.linear(inputs.images.flatten(1)) - self.linear(inputs.reconstruction.flatten(1))
        return value[:, 0]

    def loss(self, inputs: LossInputs) -> Tensor:
        return nn.functional.softplus(-self(inputs))


class Adversarial(Term):
    """The critic's value of an image minus that of its reconstruction."""

    unit = "nats"

    def __init__(self) -> None:
        super().__init__()
        self._critic = (LinearCritic(),)

    @property
    def critic(self) -> LinearCritic:
        return self._critic[0]

    def forward(self, inputs: LossInputs) -> Tensor:
        value: Tensor = self.critic(inputs)
        return value
