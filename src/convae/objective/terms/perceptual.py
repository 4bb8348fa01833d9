"""Differences of what a trained encoder sees."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from convae.core.arguments import NonNegative
from convae.core.errors import ConfigError, ShapeError
from convae.core.names import shape_text
from convae.core.precision import at_least_float32
from convae.core.types import PerImage
from convae.objective.terms.base import LossInputs, Term

_LEAST_ENERGY = 1e-6
"""Mean square of features below which they count as silent."""


class Perceptual(Term):
    """Squared distance of image and expected image in the features of a saved model's encoder, which stays frozen.

    After the deep feature consistent VAE (Hou et al. 2017, arXiv:1610.00291), with any encoder. The distance in a
    layer is divided by the mean square of the image's own features, so that layers count alike whatever the
    size of their values; the term is the mean over layers.

    A layer of stride 2 sees the pixels of a chequered pattern as alike or as different, as they happen to lie: what
    such layers alone judge is chequered where it is uncertain. So the image itself is compared, too, and both images
    are moved by a pixel along some of their axes, other ones at every step; without gradients, the term is the mean
    over all of these ways.

    Args:
        network: the encoder's layers.
        model: path of the saved model: an artifact or a run.
        layers: places in the encoder's list, counted from 0, of the layers whose features are compared; without
            them, the last layer at each spatial size, and the image itself where no layer keeps its size.
    """

    unit: ClassVar = "relative squared feature distance"
    loads: ClassVar = "model"
    example: ClassVar = {"model": "runs/digits"}

    def __init__(
        self,
        network: nn.Sequential,
        *,
        model: Path,
        layers: Annotated[list[NonNegative], Field(min_length=1)] | None = None,
    ) -> None:
        super().__init__()
        if layers is not None and max(layers) >= len(network):
            raise ConfigError(f"the encoder of {model} has layers 0 to {len(network) - 1}, not {max(layers)}")
        self.model = model
        self.layers = layers
        self.encoder = network.requires_grad_(False)

    def forward(self, inputs: LossInputs) -> PerImage:
        """The distance of each image's features."""
        self.encoder.eval()
        ways = 1 << (inputs.images.ndim - 2)
        numbers = [inputs.moment.step % ways] if torch.is_grad_enabled() else range(ways)
        return torch.stack([self._moved(inputs, number) for number in numbers]).mean(0)

    def _moved(self, inputs: LossInputs, way: int) -> PerImage:
        """The distance after moving both images by a pixel along each axis whose bit is set."""
        axes = [axis for axis in range(2, inputs.images.ndim) if way >> (axis - 2) & 1]
        x, y = (
            torch.roll(image, [1] * len(axes), axes) if axes else image
            for image in (inputs.images, inputs.reconstruction)
        )
        with torch.no_grad():
            wanted = self._features(x)
        return torch.stack([_distance(one, two) for one, two in zip(wanted, self._features(y), strict=True)]).mean(0)

    def _features(self, x: Tensor) -> list[Tensor]:
        """What the chosen layers make of images."""
        images, shape, axes = x, x.shape[1:], x.ndim
        features: dict[object, Tensor] = {}
        for place, layer in enumerate(self.encoder):
            try:
                x = layer(x)
            except RuntimeError as error:
                raise ShapeError(f"the encoder of {self.model} cannot take images {shape_text(shape)}") from error
            if self.layers is None and x.ndim == axes:
                features[x.shape[2:]] = x
            elif self.layers is not None and place in self.layers:
                features[place] = x
            if self.layers is not None and place == max(self.layers):
                break
        if not features:
            raise ConfigError(f"the encoder of {self.model} keeps no spatial axes: name the layers to compare")
        if self.layers is None:
            features.setdefault(images.shape[2:], images)
        return list(features.values())


def _distance(wanted: Tensor, found: Tensor) -> PerImage:
    """Mean squared difference of features, relative to the mean square of the wanted ones."""
    wanted, found = at_least_float32(wanted), at_least_float32(found)
    difference = (wanted - found).square().flatten(1).mean(1)
    return difference / wanted.square().flatten(1).mean(1).clamp_min(_LEAST_ENERGY)
