"""Discriminators at several scales."""

from __future__ import annotations

from collections.abc import Iterator
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
        return tuple(logits for network, own in self._scaled(images) for logits in network(own))

    def features(self, images: Images) -> tuple[tuple[Tensor, ...], ...]:
        """(batch, channel, *sizes) in [0, 1] to the activations of the hidden layers of each scale."""
        return tuple(layers for network, own in self._scaled(images) for layers in network.features(own))

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

    def _scaled(self, images: Images) -> Iterator[tuple[Discriminator, Images]]:
        """Each discriminator with its images."""
        pool = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[images.ndim - 3]
        for number, network in enumerate(self.networks):
            assert isinstance(network, Discriminator)
            images = pool(images, 2) if number else images
            yield network, images
