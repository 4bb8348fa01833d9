"""A feature network of a few layers, for terms and metrics."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from convae.features import FeatureNetwork

LAYERS: dict[str, list[nn.Module]] = {
    "identity": [nn.Identity()],
    "pool": [nn.AvgPool2d(2)],
    "both": [nn.Identity(), nn.AvgPool2d(2)],
    "tanh": [nn.Tanh()],
    "statistics": [nn.BatchNorm2d(1), nn.Dropout()],
}


class Pooled(FeatureNetwork):
    """The outputs of layers without weights."""

    name, sha256 = "pooled", "0" * 64

    def __init__(self, *, layers: Literal["identity", "pool", "both", "tanh", "statistics"] = "identity") -> None:
        super().__init__()
        self.layers = nn.ModuleList(LAYERS[layers])

    def maps(self, images: Tensor) -> list[Tensor]:
        """The output of each layer."""
        found = [images]
        for layer in self.layers:
            found.append(layer(found[-1]))
        return found[1:]


class Channels(FeatureNetwork):
    """One map: the four pixels of each 2×2 square as channels."""

    name, sha256 = "channels", "1" * 64

    def maps(self, images: Tensor) -> list[Tensor]:
        """(batch, 4, height / 2, width / 2) of gray images."""
        return [nn.functional.pixel_unshuffle(images, 2)]


class Flat(FeatureNetwork):
    """The image as a vector."""

    name, sha256 = "flat", "2" * 64

    def maps(self, images: Tensor) -> list[Tensor]:
        """(batch, value)."""
        return [images.flatten(1)]
