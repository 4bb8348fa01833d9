"""Learned perceptual similarity: features of an image classifier, weighted as people judged image patches."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from convae.core.errors import ArtifactError
from convae.core.types import Images, PerImage
from convae.model.weights import State, fill, read_state, sha256_of

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""Of the colors in [-1, 1], before the first layer."""
EPSILON = 1e-8
"""Added to the square of a feature's length."""
PUBLISHED = {
    "alex": ("7be5be79", "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"),
    "vgg": ("397923af", "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868"),
}
"""SHA-256 of the published files: how that of the backbone begins, as its name says, and that of the heads (v0.1)."""
LEAST = {"alex": 31, "vgg": 16}
"""Pixels that an image needs on each side to have features in every layer."""
AFTER = {"alex": (1, 4, 7, 9, 11), "vgg": (3, 8, 15, 22, 29)}
"""Numbers of the layers whose features count."""


def _alexnet() -> nn.Sequential:
    """The convolutions of AlexNet as in `alexnet-owt-7be5be79.pth` (Krizhevsky 2014, arXiv:1404.5997)."""
    convolutions = [
        (3, 64, 11, 4, 2),
        (64, 192, 5, 1, 2),
        (192, 384, 3, 1, 1),
        (384, 256, 3, 1, 1),
        (256, 256, 3, 1, 1),
    ]
    layers: list[nn.Module] = []
    for number, (channels, out, kernel, stride, padding) in enumerate(convolutions):
        if number in (1, 2):
            layers.append(nn.MaxPool2d(3, 2))
        layers += [nn.Conv2d(channels, out, kernel, stride, padding), nn.ReLU()]
    return nn.Sequential(*layers)


def _vgg() -> nn.Sequential:
    """The convolutions of VGG-16 as in `vgg16-397923af.pth` (Simonyan & Zisserman 2014, arXiv:1409.1556)."""
    layers: list[nn.Module] = []
    channels = 3
    for number, (out, times) in enumerate([(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)]):
        if number:
            layers.append(nn.MaxPool2d(2, 2))
        for _ in range(times):
            layers += [nn.Conv2d(channels, out, 3, 1, 1), nn.ReLU()]
            channels = out
    return nn.Sequential(*layers)


class PerceptualDistance:
    """The distance of Zhang et al. 2018 (arXiv:1801.03924) with a backbone and heads from files, read weights-only.

    Attributes:
        network: `alex` or `vgg`, as the backbone's tensors say.
        files: each file's name and SHA-256, for protocols.
        published: whether both files are the published ones.

    Args:
        backbone: torchvision's AlexNet or VGG-16; its classifier is of no use.
        heads: the weights of the channels of each layer, `alex.pth` or `vgg.pth` of version 0.1.

    Raises:
        ArtifactError: a file cannot be read or holds other tensors.
    """

    def __init__(self, backbone: Path, heads: Path) -> None:
        state = read_state(backbone)
        first = tuple(state["features.0.weight"].shape) if "features.0.weight" in state else ()
        networks = {(64, 3, 11, 11): ("alex", _alexnet), (64, 3, 3, 3): ("vgg", _vgg)}
        if first not in networks:
            raise ArtifactError(f"{backbone}: neither torchvision's AlexNet nor its VGG-16")
        self.network, build = networks[first]
        with torch.device("meta"):
            self._layers = build()
        own = {name.removeprefix("features."): tensor for name, tensor in state.items() if name.startswith("features.")}
        fill(self._layers, own, f"{backbone}: not torchvision's {self.network}")
        widths = [len(self._layers[place - 1].bias) for place in AFTER[self.network]]  # type: ignore[arg-type]  # convolutions
        self._heads = _heads(read_state(heads), widths, heads)
        self.files = {
            what: {"file": path.name, "sha256": sha256_of(path)}
            for what, path in (("backbone", backbone), ("heads", heads))
        }
        begins, whole = PUBLISHED[self.network]
        self.published = self.files["backbone"]["sha256"].startswith(begins) and self.files["heads"]["sha256"] == whole

    def __call__(self, x: Images, y: Images) -> PerImage:
        """The distance of each pair of RGB images in [0, 1]; 0 for equal ones."""
        self._layers.to(x.device)
        total = torch.zeros(len(x), device=x.device)
        for head, ours, theirs in zip(self._heads, self._features(x), self._features(y), strict=True):
            total += ((ours - theirs).square() * head.to(x.device)).sum(1).mean((1, 2))
        return total

    def _features(self, x: Images) -> list[Tensor]:
        """What each chosen layer sees, every place with the length 1."""
        shift, scale = (torch.tensor(values, device=x.device)[:, None, None] for values in (SHIFT, SCALE))
        x = (2 * x.float() - 1 - shift) / scale
        found = []
        for number, layer in enumerate(self._layers):
            x = layer(x)
            if number in AFTER[self.network]:
                found.append(x / (x.square().sum(1, keepdim=True) + EPSILON).sqrt())
        return found


def _heads(state: State, widths: list[int], path: Path) -> list[Tensor]:
    """The weights of the channels of each layer, (channels, 1, 1)."""
    names = [f"lin{number}.model.1.weight" for number in range(len(widths))]
    for name, width in zip(names, widths, strict=True):
        if name not in state or tuple(state[name].shape) != (1, width, 1, 1):
            raise ArtifactError(f"{path}: not the heads of this backbone: '{name}' of {width} channels is missing")
    return [state[name][0].float() for name in names]
