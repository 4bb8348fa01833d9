"""A loss term with a module that trains against the model: a linear critic that tells images from reconstructions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from convae.objective.terms.base import LossInputs, Term


class Adversarial(Term):
    """The critic's value of an image minus that of its reconstruction."""

    unit = "nats"

    def __init__(self) -> None:
        super().__init__()
        critic = nn.Linear(64, 1)
        with torch.no_grad():
            critic.weight.copy_(torch.linspace(-0.1, 0.1, 64)[None])
            critic.bias.zero_()
        self._critic = (critic,)

    @property
    def critic(self) -> nn.Module:
        return self._critic[0]

    def _difference(self, inputs: LossInputs) -> Tensor:
        value: Tensor = (self.critic(inputs.images.flatten(1)) - self.critic(inputs.reconstruction.flatten(1)))[:, 0]
        return value

    def forward(self, inputs: LossInputs) -> Tensor:
        return self._difference(inputs)

    def critic_loss(self, inputs: LossInputs) -> Tensor:
        return nn.functional.softplus(-self._difference(inputs))
