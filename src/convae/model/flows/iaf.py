"""Inverse autoregressive flow."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from convae.core.arguments import Positive
from convae.core.types import Shape
from convae.model.flows._autoregressive import AutoregressiveStep
from convae.model.flows.base import Flow


class IAF(Flow):
    """Inverse autoregressive flow (Kingma et al. 2016, arXiv:1606.04934).

    Each step scales and shifts each value by a network of the noise values before it, in alternating order. Drawing a
    latent with its density takes one pass, as a posterior needs; the density of other latents takes one for each of
    their values. The scale is an exponential, not the gate of the paper, so that the flow starts close to the identity.

    Args:
        shape: of a latent, without the batch; a map is flattened.
        features: shape of the encoder's features; None without.
        steps: number of autoregressive steps.
        hidden: width of the two hidden layers of each network.
    """

    example: ClassVar = {"steps": 2, "hidden": 8}
    has_parallel_inverse: ClassVar = False

    def __init__(
        self, shape: Shape, features: Shape | None = None, *, steps: Positive = 2, hidden: Positive = 128
    ) -> None:
        super().__init__(shape, features)
        self.steps = nn.ModuleList(
            AutoregressiveStep(shape, features, hidden, is_reversed=number % 2 == 1, maps_noise=True)
            for number in range(steps)
        )
        self.reset()
