"""Learned perceptual distance (LPIPS): distance of classifier features, with weights fitted to human judgments."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convae.core.arguments import Positive
from convae.core.errors import ArtifactError, ShapeError
from convae.core.types import Images, PerImage
from convae.features.networks.base import FeatureNetwork, as_colors
from convae.model.weights import State, fill, read_state, sha256_of

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""Normalization of colors in [-1, 1]."""
EPSILON = 1e-8
"""Added to squared feature norms."""
PUBLISHED = {
    "alex": ("7be5be79", "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"),
    "vgg": ("397923af", "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868"),
}
"""SHA-256 of the published files: a prefix for the backbone, as in its name, and the hash of the heads (v0.1)."""
MIN_SIZE = {"alex": 31, "vgg": 16}
"""Minimum image size in pixels."""
FEATURE_LAYERS = {"alex": (1, 4, 7, 9, 11), "vgg": (3, 8, 15, 22, 29)}
"""Indices of the layers whose outputs are compared."""


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


class LPIPS(FeatureNetwork):
    """AlexNet or VGG-16 with channels weighted as people judged image patches (LPIPS, arXiv:1801.03924).

    The weights come from two files. `name` is `lpips` if they are the published ones, otherwise `lpips-unverified`.

    Args:
        backbone: torchvision's `alexnet-owt-7be5be79.pth` or `vgg16-397923af.pth`; its classifier is not used.
        heads: the weights of the channels of each layer, `alex.pth` or `vgg.pth` of LPIPS 0.1, as in the packages
            lpips and torchmetrics.
        size: pixels on each side that images are resized to first, bilinearly; AlexNet needs 31, VGG-16 needs 16.

    Attributes:
        files: each file's name and SHA-256, for protocols.
        network: `alex` or `vgg`, as the backbone's tensors say.
    """

    example: ClassVar = {"backbone": "alexnet-owt-7be5be79.pth", "heads": "alex.pth"}

    def __init__(self, *, backbone: Path, heads: Path, size: Positive | None = None) -> None:
        super().__init__()
        state = read_state(backbone)
        first = tuple(state["features.0.weight"].shape) if "features.0.weight" in state else ()
        networks = {(64, 3, 11, 11): ("alex", _alexnet), (64, 3, 3, 3): ("vgg", _vgg)}
        if first not in networks:
            raise ArtifactError(f"{backbone}: expected the weights of AlexNet or VGG-16 from torchvision")
        self.network, build = networks[first]
        with torch.device("meta"):
            self.features = build()
        own = {name.removeprefix("features."): tensor for name, tensor in state.items() if name.startswith("features.")}
        fill(self.features, own, f"{backbone}: not torchvision's {self.network}")
        widths = [len(self.features[place - 1].bias) for place in FEATURE_LAYERS[self.network]]  # type: ignore[arg-type]  # convolutions
        for number, head in enumerate(_heads(read_state(heads), widths, heads)):
            self.register_buffer(f"head_{number}", head)
        self.size = size
        self.files = {
            what: {"file": path.name, "sha256": sha256_of(path)}
            for what, path in (("backbone", backbone), ("heads", heads))
        }
        begins, whole = PUBLISHED[self.network]
        sums = [self.files[what]["sha256"] for what in ("backbone", "heads")]
        published = sums[0].startswith(begins) and sums[1] == whole
        self.name, self.sha256 = "lpips" if published else "lpips-unverified", sums[0]
        self.preprocessing = "none" if size is None else f"bilinear to {size}×{size}"

    def maps(self, images: Images) -> list[Tensor]:
        """Features of each compared layer, with the length 1 at every place."""
        x = as_colors(images, "LPIPS").to(self.get_buffer("head_0").dtype)
        if self.size is not None:
            x = F.interpolate(x, size=(self.size, self.size), mode="bilinear", align_corners=False)
        elif min(x.shape[2:]) < (least := MIN_SIZE[self.network]):
            raise ShapeError(f"{self.network} needs images of {least} pixels on each side. Set size to {2 * least}")
        shift, scale = (x.new_tensor(values)[:, None, None] for values in (SHIFT, SCALE))
        x = (2 * x - 1 - shift) / scale
        found = []
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number in FEATURE_LAYERS[self.network]:
                found.append(x / (x.square().sum(1, keepdim=True) + EPSILON).sqrt())
        return found

    def distance(self, x: Images, y: Images) -> PerImage:
        """The LPIPS of each pair of images in [0, 1]; 0 for equal ones, differentiable in `y`."""
        with torch.no_grad():
            wanted = self.maps(x)
        total = torch.zeros(len(x), device=x.device)
        for number, (ours, theirs) in enumerate(zip(wanted, self.maps(y), strict=True)):
            head = self.get_buffer(f"head_{number}")
            total = total + ((ours - theirs).square() * head).sum(1).mean((1, 2))
        return total


def _heads(state: State, widths: list[int], path: Path) -> list[Tensor]:
    """Channel weights of each layer, (channel, 1, 1)."""
    names = [f"lin{number}.model.1.weight" for number in range(len(widths))]
    for name, width in zip(names, widths, strict=True):
        if name not in state or tuple(state[name].shape) != (1, width, 1, 1):
            raise ArtifactError(f"{path}: not the heads of this backbone: expected '{name}' with {width} channels")
    return [state[name][0].float() for name in names]
