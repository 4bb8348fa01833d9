"""Discriminator interface: logits of images, larger for real ones than for reconstructions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import torch
from pydantic import AfterValidator
from torch import Tensor, nn

from convae.core.arguments import Named
from convae.core.entries import Entry, build_entry
from convae.core.errors import ConfigError
from convae.core.types import Images, Shape
from convae.objective.discriminators import DISCRIMINATORS


class Discriminator(nn.Module, ABC):
    """Maps images to logits, which are larger for real images than for reconstructions.

    The constructor takes the shape of the images, and its configuration as keyword-only arguments. The logits of an
    image must not depend on other images of the batch, so that the loss does not depend on slices and processes.

    Args:
        image_shape: channels, then sizes.
    """

    example: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, image_shape: Shape) -> None:
        super().__init__()
        self.image_shape = image_shape

    @abstractmethod
    def forward(self, images: Images) -> tuple[Tensor, ...]:
        """(batch, channel, *sizes) in [0, 1] to logits: of each scale or network, (batch, location)."""

    def features(self, images: Images) -> tuple[tuple[Tensor, ...], ...]:
        """(batch, channel, *sizes) in [0, 1] to activations: for each scale or network, those of its hidden layers.

        For the term `feature-matching`. From the first layer to the last, (batch, …) each; those of an image do not
        depend on other images.

        Raises:
            ConfigError: this discriminator does not define them.
        """
        raise ConfigError(f"the discriminator {type(self).__name__} defines no features. Use patch or multiscale")

    @abstractmethod
    def reset(self, generator: torch.Generator | None = None) -> None:
        """Initializes weights and statistics, with a CPU generator."""

    def after_step(self) -> None:
        """Called after the passes of a training step of the discriminator, such as for running estimates."""
        return


def build_discriminator(written: Named, image_shape: Shape) -> Discriminator:
    """Builds a discriminator from its name and arguments, for images of a shape.

    Args:
        written: its name, or a mapping of the name to its arguments.
        image_shape: channels, then sizes.

    Raises:
        ConfigError: there is no such discriminator, or its arguments are wrong.
        ShapeError: it does not take images of this shape.
    """
    discriminator: Discriminator = build_entry(DISCRIMINATORS, written, image_shape)
    return discriminator


DiscriminatorEntry = Annotated[Named, AfterValidator(Entry(DISCRIMINATORS))]
"""The type of an argument that is a discriminator: its name, or a mapping of the name to its arguments."""
