"""The Inception network of the Fréchet Inception Distance."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convae.core.precision import with_gradient_of
from convae.core.types import Images
from convae.features.networks.base import FeatureNetwork, as_colors
from convae.model.weights import fill, read_state, sha256_of

SIDE = 299
"""Image size of the network, in pixels."""
PUBLISHED = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
"""SHA-256 of `pt_inception-2015-12-05-6726825d.pth`: the TensorFlow graph of Heusel et al. 2017 as PyTorch tensors."""
Kernel = int | tuple[int, int]
Convolution = tuple[str, int, Kernel]
"""Name, output channels and kernel of a convolution with stride 1 and padding `same`."""
Downsampling = tuple[str, int, Kernel, Literal["stride 2"]]
"""Likewise with stride 2 and without padding."""
Pool = Literal["average", "max", "max, stride 2"]
Branch = list[Convolution | Downsampling | Pool]


class _Unit(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(self, channels: int, out: int, kernel: Kernel, stride: int = 1, padding: str | int = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = F.relu(self.bn(self.conv(x)))
        return y


class _Mixed(nn.Module):
    """Parallel branches with concatenated channels; layers that branches begin with in common run once."""

    def __init__(self, channels: int, branches: list[Branch]) -> None:
        super().__init__()
        self.branches = branches
        for branch in branches:
            width = channels
            for step in branch:
                if isinstance(step, tuple):
                    name, out, kernel, *downsampling = step
                    self.add_module(name, _Unit(width, out, kernel, *((2, 0) if downsampling else (1, "same"))))
                    width = out

    def forward(self, x: Tensor) -> Tensor:
        outputs: dict[tuple[str, ...], Tensor] = {(): x}
        for branch in self.branches:
            names: tuple[str, ...] = ()
            for step in branch:
                before, names = outputs[names], (*names, step if isinstance(step, str) else step[0])
                if names not in outputs:
                    outputs[names] = self._step(step, before)
        ends = [tuple(step if isinstance(step, str) else step[0] for step in branch) for branch in self.branches]
        return torch.cat([outputs[end] for end in ends], dim=1)

    def _step(self, step: Convolution | Downsampling | Pool, x: Tensor) -> Tensor:
        if step == "average":
            return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
        if step == "max":
            return F.max_pool2d(x, 3, stride=1, padding=1)
        if step == "max, stride 2":
            return F.max_pool2d(x, 3, stride=2)
        y: Tensor = self.get_submodule(step[0])(x)
        return y


def _mixed_5(channels: int, pooled: int) -> _Mixed:
    double: Branch = [("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3)]
    return _Mixed(
        channels,
        [
            [("branch1x1", 64, 1)],
            [("branch5x5_1", 48, 1), ("branch5x5_2", 64, 5)],
            double,
            ["average", ("branch_pool", pooled, 1)],
        ],
    )


def _mixed_6(inner: int) -> _Mixed:
    across, down = (1, 7), (7, 1)
    double: Branch = [("branch7x7dbl_1", inner, 1)]
    double += [(f"branch7x7dbl_{number}", inner, (down, across)[number % 2]) for number in (2, 3, 4)]
    return _Mixed(
        768,
        [
            [("branch1x1", 192, 1)],
            [("branch7x7_1", inner, 1), ("branch7x7_2", inner, across), ("branch7x7_3", 192, down)],
            [*double, ("branch7x7dbl_5", 192, across)],
            ["average", ("branch_pool", 192, 1)],
        ],
    )


def _mixed_7(channels: int, pool: Pool) -> _Mixed:
    across, down = (1, 3), (3, 1)
    single: Branch = [("branch3x3_1", 384, 1)]
    double: Branch = [("branch3x3dbl_1", 448, 1), ("branch3x3dbl_2", 384, 3)]
    return _Mixed(
        channels,
        [
            [("branch1x1", 320, 1)],
            [*single, ("branch3x3_2a", 384, across)],
            [*single, ("branch3x3_2b", 384, down)],
            [*double, ("branch3x3dbl_3a", 384, across)],
            [*double, ("branch3x3dbl_3b", 384, down)],
            [pool, ("branch_pool", 192, 1)],
        ],
    )


def build_inception() -> nn.Sequential:
    """Inception v3 (Szegedy et al. 2015, arXiv:1512.00567) up to its 2,048 pooled features, on the meta device.

    It differs from torchvision's as the TensorFlow graph of FID does: average pooling excludes padding, the last block
    has max pooling, and there are 1,008 classes. The input is in [-1, 1].
    """
    reduction_a: list[Branch] = [
        [("branch3x3", 384, 3, "stride 2")],
        [("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3, "stride 2")],
        ["max, stride 2"],
    ]
    seven: Branch = [("branch7x7x3_1", 192, 1), ("branch7x7x3_2", 192, (1, 7)), ("branch7x7x3_3", 192, (7, 1))]
    reduction_b: list[Branch] = [
        [("branch3x3_1", 192, 1), ("branch3x3_2", 320, 3, "stride 2")],
        [*seven, ("branch7x7x3_4", 192, 3, "stride 2")],
        ["max, stride 2"],
    ]
    with torch.device("meta"):
        parts = {
            "Conv2d_1a_3x3": _Unit(3, 32, 3, 2),
            "Conv2d_2a_3x3": _Unit(32, 32, 3),
            "Conv2d_2b_3x3": _Unit(32, 64, 3, padding="same"),
            "pool_1": nn.MaxPool2d(3, 2),
            "Conv2d_3b_1x1": _Unit(64, 80, 1),
            "Conv2d_4a_3x3": _Unit(80, 192, 3),
            "pool_2": nn.MaxPool2d(3, 2),
            "Mixed_5b": _mixed_5(192, 32),
            "Mixed_5c": _mixed_5(256, 64),
            "Mixed_5d": _mixed_5(288, 64),
            "Mixed_6a": _Mixed(288, reduction_a),
            "Mixed_6b": _mixed_6(128),
            "Mixed_6c": _mixed_6(160),
            "Mixed_6d": _mixed_6(160),
            "Mixed_6e": _mixed_6(192),
            "Mixed_7a": _Mixed(768, reduction_b),
            "Mixed_7b": _mixed_7(1280, "average"),
            "Mixed_7c": _mixed_7(2048, "max"),
        }
    network = nn.Sequential()
    for name, part in parts.items():
        network.add_module(name, part)
    return network.eval()


class Inception(FeatureNetwork):
    """Inception v3 of the Fréchet Inception Distance, with its published weights from a file.

    With these the Fréchet distance is the FID and the kernel distance the KID; with others they are named after the
    file. Images become 8-bit as files of images are, one gray channel becomes three, and they are resized to
    299×299 pixels as pytorch-fid does.

    Args:
        weights: `.pth` or `.safetensors`, with the names of `pt_inception-2015-12-05-6726825d.pth`.
    """

    example: ClassVar = {"weights": "pt_inception-2015-12-05-6726825d.pth"}
    preprocessing = "8 bits, bilinear to 299×299 without antialiasing, [-1, 1]"

    def __init__(self, *, weights: Path) -> None:
        super().__init__()
        self.sha256 = sha256_of(weights)
        published = self.sha256 == PUBLISHED
        self.name = "inception" if published else weights.stem
        self.metric_aliases = {"fd": "fid", "kd": "kid", "rfd": "rfid"} if published else {}
        state = {name: tensor for name, tensor in read_state(weights).items() if not name.startswith("fc.")}
        self.network = build_inception()
        fill(self.network, state, f"{weights}: not the weights of Inception v3 as FID has it")

    def maps(self, images: Images) -> list[Tensor]:
        """Features before the pooling, (batch, 2048, 8, 8)."""
        colors = as_colors(images, "Inception").to(next(self.network.parameters()).dtype)
        eight_bit = with_gradient_of(colors.mul(255).round().div(255), colors)
        resized = F.interpolate(eight_bit, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
        found: Tensor = self.network(2 * resized - 1)
        return [found]
