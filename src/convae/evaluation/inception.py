"""The Inception network of the Fréchet Inception Distance, with its published weights from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from convae.core.errors import ShapeError
from convae.core.names import shape_text
from convae.core.types import Images
from convae.model.weights import fill, read_state, sha256_of

SIDE = 299
"""Pixels on each side of the images that the network was trained on."""
PUBLISHED = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
"""SHA-256 of `pt_inception-2015-12-05-6726825d.pth`: the TensorFlow graph of Heusel et al. 2017 as PyTorch tensors."""
Kernel = int | tuple[int, int]
Convolution = tuple[str, int, Kernel]
"""Name, channels, kernel: stride 1 and the same size."""
Halving = tuple[str, int, Kernel, Literal["halve"]]
"""The same with stride 2 and without padding."""
Pool = Literal["average", "maximum", "maximum, halve"]
Route = list[Convolution | Halving | Pool]


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
    """Routes side by side, their channels put one behind the other; what routes begin with in common runs once."""

    def __init__(self, channels: int, routes: list[Route]) -> None:
        super().__init__()
        self.routes = routes
        for route in routes:
            now = channels
            for step in route:
                if isinstance(step, tuple):
                    name, out, kernel, *halve = step
                    self.add_module(name, _Unit(now, out, kernel, *((2, 0) if halve else (1, "same"))))
                    now = out

    def forward(self, x: Tensor) -> Tensor:
        known: dict[tuple[str, ...], Tensor] = {(): x}
        for route in self.routes:
            names: tuple[str, ...] = ()
            for step in route:
                before, names = known[names], (*names, step if isinstance(step, str) else step[0])
                if names not in known:
                    known[names] = self._step(step, before)
        ends = [tuple(step if isinstance(step, str) else step[0] for step in route) for route in self.routes]
        return torch.cat([known[end] for end in ends], dim=1)

    def _step(self, step: Convolution | Halving | Pool, x: Tensor) -> Tensor:
        if step == "average":
            return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
        if step == "maximum":
            return F.max_pool2d(x, 3, stride=1, padding=1)
        if step == "maximum, halve":
            return F.max_pool2d(x, 3, stride=2)
        y: Tensor = self.get_submodule(step[0])(x)
        return y


def _mixed_5(channels: int, pooled: int) -> _Mixed:
    double: Route = [("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3)]
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
    double: Route = [("branch7x7dbl_1", inner, 1)]
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
    single: Route = [("branch3x3_1", 384, 1)]
    double: Route = [("branch3x3dbl_1", 448, 1), ("branch3x3dbl_2", 384, 3)]
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


def inception() -> nn.Sequential:
    """Inception v3 (Szegedy et al. 2015, arXiv:1512.00567) up to its 2,048 pooled features, on the meta device.

    With what is different in the graph that FID is defined by: averages leave the padding out, the last block takes
    a maximum, and there are 1,008 classes. Its input is in [-1, 1].
    """
    halving_a: list[Route] = [
        [("branch3x3", 384, 3, "halve")],
        [("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3, "halve")],
        ["maximum, halve"],
    ]
    seven: Route = [("branch7x7x3_1", 192, 1), ("branch7x7x3_2", 192, (1, 7)), ("branch7x7x3_3", 192, (7, 1))]
    halving_b: list[Route] = [
        [("branch3x3_1", 192, 1), ("branch3x3_2", 320, 3, "halve")],
        [*seven, ("branch7x7x3_4", 192, 3, "halve")],
        ["maximum, halve"],
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
            "Mixed_6a": _Mixed(288, halving_a),
            "Mixed_6b": _mixed_6(128),
            "Mixed_6c": _mixed_6(160),
            "Mixed_6d": _mixed_6(160),
            "Mixed_6e": _mixed_6(192),
            "Mixed_7a": _Mixed(768, halving_b),
            "Mixed_7b": _mixed_7(1280, "average"),
            "Mixed_7c": _mixed_7(2048, "maximum"),
        }
    network = nn.Sequential()
    for name, part in parts.items():
        network.add_module(name, part)
    return network.eval()


class InceptionFeatures:
    """The 2,048 pooled features that FID compares, from a file of weights that is read without running it.

    With the published weights the Fréchet distance is the FID and the kernel distance the KID; with others they are
    named after the file. Images become 8-bit as files of images are, one gray channel becomes three, and they are
    brought to 299×299 pixels as pytorch-fid does.

    Args:
        path: `.pth` or `.safetensors`, with the names of `pt_inception-2015-12-05-6726825d.pth`.
        device: where it runs.

    Raises:
        ArtifactError: the file cannot be read or holds other tensors.
    """

    preparation = "8 bits, bilinear to 299×299 without antialiasing, [-1, 1]"

    def __init__(self, path: Path, device: torch.device | str = "cpu") -> None:
        self.sha256 = sha256_of(path)
        published = self.sha256 == PUBLISHED
        self.name = "inception" if published else path.stem
        self.known_as = {"fd": "fid", "kd": "kid"} if published else {}
        state = {name: tensor for name, tensor in read_state(path).items() if not name.startswith("fc.")}
        self._network = inception()
        fill(self._network, state, f"{path}: not the weights of Inception v3 as FID has it")
        self._network.to(device)

    def __call__(self, images: Images) -> Float[Tensor, "batch 2048"]:
        """(batch, 2048).

        Raises:
            ShapeError: the images do not have two spatial axes and one or three channels.
        """
        if images.ndim != 4 or images.shape[1] not in (1, 3):
            raise ShapeError(
                f"Inception features are of images with 1 or 3 channels, got {shape_text(images.shape[1:])}"
            )
        eight_bit = images.float().mul(255).round().div(255).expand(-1, 3, -1, -1)
        resized = F.interpolate(eight_bit, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
        features: Tensor = self._network(2 * resized - 1)
        return features.mean((2, 3))
