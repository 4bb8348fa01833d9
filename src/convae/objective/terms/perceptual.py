"""Perceptual loss."""

from __future__ import annotations

from typing import ClassVar

import torch

from convae.core.types import PerImage
from convae.features.networks.base import NetworkEntry, build_feature_network
from convae.objective.terms.base import LossInputs, Term


class Perceptual(Term):
    """Perceptual loss: distance of image and reconstruction in features of a frozen network.

    With `lpips`, a classifier (`efficientnet-lite0`), or the `encoder` of a trained model, as in the deep feature
    consistent VAE (Hou et al. 2017, arXiv:1610.00291).

    Layers of stride 2 cause checkerboard artifacts in reconstructions. Therefore both images are shifted by one pixel
    along some axes, other axes at every step; without gradients, the term is the mean over all shifts.

    Args:
        network: the feature network.
    """

    unit: ClassVar = "feature distance"
    example: ClassVar = {"network": "efficientnet-lite0"}

    def __init__(self, *, network: NetworkEntry) -> None:
        super().__init__()
        self.network = build_feature_network(network)

    def forward(self, inputs: LossInputs) -> PerImage:
        """The perceptual loss of each image."""
        self.network.eval()
        ways = 1 << (inputs.images.ndim - 2)
        numbers = [inputs.moment.step % ways] if torch.is_grad_enabled() else range(ways)
        return torch.stack([self._shifted(inputs, number) for number in numbers]).mean(0)

    def _shifted(self, inputs: LossInputs, way: int) -> PerImage:
        """The distance after a shift of both images by one pixel along each axis whose bit is set in `way`."""
        axes = [axis for axis in range(2, inputs.images.ndim) if way >> (axis - 2) & 1]
        x, y = (
            torch.roll(image, [1] * len(axes), axes) if axes else image
            for image in (inputs.images, inputs.reconstruction)
        )
        return self.network.distance(x, y)
