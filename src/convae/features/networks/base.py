"""Feature network interface: features of images, and distances in them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import torch
from pydantic import AfterValidator
from torch import Tensor, nn

from convae.core.arguments import Named
from convae.core.entries import Entry, build_entry
from convae.core.errors import ShapeError
from convae.core.names import shape_text
from convae.core.precision import at_least_float32
from convae.core.types import Images, PerImage
from convae.features.networks import NETWORKS

LEAST_ENERGY = 1e-6
"""Smallest mean square of features that a distance is divided by."""


class FeatureNetwork(nn.Module, ABC):
    """A frozen network that maps images to features; configuration is keyword-only.

    It is in evaluation mode, and its weights require no gradients. Half precision is converted to float32.

    Attributes:
        name: suffix of the names of metrics.
        sha256: of the weights.
        preprocessing: how images are preprocessed, for protocols.
        metric_aliases: established names of metrics in these features, such as `fid`, by the name of the metric.
    """

    example: ClassVar[Mapping[str, Any]] = {}
    name: str
    sha256: str
    preprocessing: str = "none"
    metric_aliases: Mapping[str, str] = {}

    @abstractmethod
    def maps(self, images: Images) -> list[Tensor]:
        """Features in several layers, (batch, channel, *sizes) or (batch, channel); differentiable.

        Args:
            images: (batch, channel, *sizes) in [0, 1].

        Raises:
            ShapeError: the network does not accept images of this shape.
        """

    def forward(self, images: Images) -> Tensor:
        """One vector for each image, (batch, feature), by which sets of images are compared.

        By default the mean over the places of the last map.

        Raises:
            ShapeError: the network does not accept images of this shape.
        """
        last = self.maps(images)[-1]
        return last.flatten(2).mean(2) if last.ndim > 2 else last

    def distance(self, x: Images, y: Images) -> PerImage:
        """The distance of pairs of images, (batch,); 0 for equal ones, differentiable in `y`.

        By default the mean over layers of the squared difference, relative to the mean square of the features of `x`.

        Raises:
            ShapeError: the network does not accept images of this shape.
        """
        with torch.no_grad():
            wanted = self.maps(x)
        return torch.stack([_relative(one, two) for one, two in zip(wanted, self.maps(y), strict=True)]).mean(0)


def _relative(wanted: Tensor, found: Tensor) -> PerImage:
    """Mean squared difference, relative to the mean square of what is wanted."""
    wanted, found = at_least_float32(wanted), at_least_float32(found)
    difference = (wanted - found).square().flatten(1).mean(1)
    return difference / wanted.square().flatten(1).mean(1).clamp_min(LEAST_ENERGY)


def as_colors(images: Tensor, network: str) -> Tensor:
    """Images (batch, 3, height, width) in float32 or wider; a gray one has three equal channels.

    Raises:
        ShapeError: the images do not have two spatial axes and one or three channels.
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ShapeError(f"{network} features are of images with 1 or 3 channels, got {shape_text(images.shape[1:])}")
    return at_least_float32(images).expand(-1, 3, -1, -1)


def build_feature_network(written: Named) -> FeatureNetwork:
    """Builds a feature network from its name and arguments.

    Args:
        written: its name, or a mapping of the name to its arguments.

    Raises:
        ConfigError: there is no such network, its arguments are wrong, or a package is missing.
        ArtifactError: its file cannot be read or holds other weights.
    """
    made: FeatureNetwork = build_entry(NETWORKS, written)
    return made.eval().requires_grad_(False)


NetworkEntry = Annotated[Named, AfterValidator(Entry(NETWORKS))]
"""The type of an argument that is a feature network: its name, or a mapping of the name to its arguments."""
