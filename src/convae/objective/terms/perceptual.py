"""Perceptual loss."""

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
"""Smallest mean square of features that a distance is divided by."""


class Perceptual(Term):
    """Perceptual loss: squared distance of image and reconstruction in features of a frozen saved encoder.

    As in the deep feature consistent VAE (Hou et al. 2017, arXiv:1610.00291), with any encoder. The distance of a
    layer is divided by the mean square of the image's features; the term is the mean over layers.

    Layers of stride 2 cause checkerboard artifacts in reconstructions. Therefore the images themselves are compared
    as well, and both are shifted by one pixel along some axes, other axes at every step; without gradients, the
    term is the mean over all shifts.

    Args:
        network: encoder layers.
        model: path of the saved model: an artifact or a run.
        layers: indices of the encoder layers whose features are compared, from 0; by default the last layer at each
            spatial size, and the image itself if no layer keeps its size.
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
        """The perceptual loss of each image."""
        self.encoder.eval()
        ways = 1 << (inputs.images.ndim - 2)
        numbers = [inputs.moment.step % ways] if torch.is_grad_enabled() else range(ways)
        return torch.stack([self._moved(inputs, number) for number in numbers]).mean(0)

    def _moved(self, inputs: LossInputs, way: int) -> PerImage:
        """The distance after a shift of both images by one pixel along each axis whose bit is set in `way`."""
        axes = [axis for axis in range(2, inputs.images.ndim) if way >> (axis - 2) & 1]
        x, y = (
            torch.roll(image, [1] * len(axes), axes) if axes else image
            for image in (inputs.images, inputs.reconstruction)
        )
        with torch.no_grad():
            wanted = self._features(x)
        return torch.stack([_distance(one, two) for one, two in zip(wanted, self._features(y), strict=True)]).mean(0)

    def _features(self, x: Tensor) -> list[Tensor]:
        """Features of images in the compared layers."""
        images, shape, axes = x, x.shape[1:], x.ndim
        features: dict[object, Tensor] = {}
        for place, layer in enumerate(self.encoder):
            try:
                x = layer(x)
            except RuntimeError as error:
                raise ShapeError(f"the encoder of {self.model} does not accept images {shape_text(shape)}") from error
            if self.layers is None and x.ndim == axes:
                features[x.shape[2:]] = x
            elif self.layers is not None and place in self.layers:
                features[place] = x
            if self.layers is not None and place == max(self.layers):
                break
        if not features:
            raise ConfigError(f"the encoder of {self.model} has no features with spatial axes. Set layers")
        if self.layers is None:
            features.setdefault(images.shape[2:], images)
        return list(features.values())


def _distance(wanted: Tensor, found: Tensor) -> PerImage:
    """Mean squared difference of features, relative to the mean square of those of the image."""
    wanted, found = at_least_float32(wanted), at_least_float32(found)
    difference = (wanted - found).square().flatten(1).mean(1)
    return difference / wanted.square().flatten(1).mean(1).clamp_min(_LEAST_ENERGY)
