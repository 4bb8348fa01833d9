"""Learned perceptual distance (LPIPS): distance of classifier features, with weights fitted to human judgments."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from convae.core.errors import ArtifactError
from convae.core.types import Images, PerImage
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


class PerceptualDistance:
    """Learned perceptual image patch similarity (LPIPS; Zhang et al. 2018, arXiv:1801.03924), with weights from files.

    The files are read without running code in them.

    Attributes:
        network: `alex` or `vgg`, by the tensors of the backbone.
        files: name and SHA-256 of each file, for protocols.
        published: whether both files are the published ones.

    Args:
        backbone: weights of AlexNet or VGG-16 from torchvision; the classifier is not used.
        heads: channel weights of each layer, `alex.pth` or `vgg.pth` of LPIPS 0.1.

    Raises:
        ArtifactError: a file cannot be read, or contains the weights of another network.
    """

    def __init__(self, backbone: Path, heads: Path) -> None:
        state = read_state(backbone)
        first = tuple(state["features.0.weight"].shape) if "features.0.weight" in state else ()
        networks = {(64, 3, 11, 11): ("alex", _alexnet), (64, 3, 3, 3): ("vgg", _vgg)}
        if first not in networks:
            raise ArtifactError(f"{backbone}: expected the weights of AlexNet or VGG-16 from torchvision")
        self.network, build = networks[first]
        with torch.device("meta"):
            self._layers = build()
        own = {name.removeprefix("features."): tensor for name, tensor in state.items() if name.startswith("features.")}
        fill(self._layers, own, f"{backbone}: not the weights of {self.network} from torchvision")
        widths = [len(self._layers[index - 1].bias) for index in FEATURE_LAYERS[self.network]]  # type: ignore[arg-type]  # convolutions
        self._heads = _heads(read_state(heads), widths, heads)
        self.files = {
            what: {"file": path.name, "sha256": sha256_of(path)}
            for what, path in (("backbone", backbone), ("heads", heads))
        }
        prefix, heads_sha256 = PUBLISHED[self.network]
        self.published = (
            self.files["backbone"]["sha256"].startswith(prefix) and self.files["heads"]["sha256"] == heads_sha256
        )

    def __call__(self, x: Images, y: Images) -> PerImage:
        """The distance of each pair of RGB images in [0, 1], (batch, 3, height, width); 0 for equal images."""
        self._layers.to(x.device)
        total = torch.zeros(len(x), device=x.device)
        for head, ours, theirs in zip(self._heads, self._features(x), self._features(y), strict=True):
            total += ((ours - theirs).square() * head.to(x.device)).sum(1).mean((1, 2))
        return total

    def _features(self, x: Images) -> list[Tensor]:
        """Outputs of the feature layers, with norm 1 at each position."""
        shift, scale = (torch.tensor(values, device=x.device)[:, None, None] for values in (SHIFT, SCALE))
        x = (2 * x.float() - 1 - shift) / scale
        found = []
        for number, layer in enumerate(self._layers):
            x = layer(x)
            if number in FEATURE_LAYERS[self.network]:
                found.append(x / (x.square().sum(1, keepdim=True) + EPSILON).sqrt())
        return found


def _heads(state: State, widths: list[int], path: Path) -> list[Tensor]:
    """Channel weights of each layer, (channel, 1, 1)."""
    names = [f"lin{number}.model.1.weight" for number in range(len(widths))]
    for name, width in zip(names, widths, strict=True):
        if name not in state or tuple(state[name].shape) != (1, width, 1, 1):
            raise ArtifactError(f"{path}: not the heads of this backbone: expected '{name}' with {width} channels")
    return [state[name][0].float() for name in names]
