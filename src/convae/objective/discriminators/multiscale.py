"""Discriminators at several scales."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convae.core.arguments import Positive
from convae.core.types import Images, Shape
from convae.objective.discriminators.base import Discriminator, DiscriminatorEntry, build_discriminator


class Multiscale(Discriminator):
    """Several discriminators, each on images half as large as those of the one before (arXiv:1711.11585).

    Args:
        image_shape: channels, then sizes.
        scales: number of discriminators.
        each: the discriminator of a scale.
    """

    example: ClassVar = {"scales": 2, "each": {"patch": {"channels": 4, "layers": 1}}}

    def __init__(self, image_shape: Shape, *, scales: Positive = 2, each: DiscriminatorEntry = "patch") -> None:
        super().__init__(image_shape)
        shapes = [(image_shape[0], *(size >> number for size in image_shape[1:])) for number in range(scales)]
        self.networks = nn.ModuleList(build_discriminator(each, shape) for shape in shapes)

    def forward(self, images: Images) -> tuple[Tensor, ...]:
        """(batch, channel, *sizes) in [0, 1] to logits of each scale, (batch, location)."""
        pool = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[images.ndim - 3]
        logits: list[Tensor] = []
        for number, network in enumerate(self.networks):
            images = pool(images, 2) if number else images
            logits += network(images)
        return tuple(logits)

    def reset(self, generator: torch.Generator | None = None) -> None:
        """Initializes each discriminator."""
        for network in self.networks:
            assert isinstance(network, Discriminator)
            network.reset(generator)

    def after_step(self) -> None:
        """The same of each discriminator."""
        for network in self.networks:
            assert isinstance(network, Discriminator)
            network.after_step()
