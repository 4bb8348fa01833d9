"""Masked autoregressive flow."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from convae.core.arguments import Positive
from convae.core.types import Shape
from convae.model.flows._autoregressive import AutoregressiveStep
from convae.model.flows.base import Flow


class MAF(Flow):
    """Masked autoregressive flow (Papamakarios, Pavlakou & Murray 2017, arXiv:1705.07057).

    Each step scales and shifts each value by a network of the latent values before it, in alternating order. The
    density takes one pass; drawing a latent takes one for each of its values, so it suits priors over vectors and small
    maps.

    Args:
        shape: of a latent, without the batch; a map is flattened.
        features: shape of the encoder's features; None without.
        steps: number of autoregressive steps.
        hidden: width of the two hidden layers of each network.
    """

    example: ClassVar = {"steps": 2, "hidden": 8}

    def __init__(
        self, shape: Shape, features: Shape | None = None, *, steps: Positive = 4, hidden: Positive = 128
    ) -> None:
        super().__init__(shape, features)
        self.steps = nn.ModuleList(
            AutoregressiveStep(shape, features, hidden, is_reversed=number % 2 == 1, maps_noise=False)
            for number in range(steps)
        )
        self.reset()
