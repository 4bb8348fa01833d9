"""What is compared: one network for both sides, as convae describes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Case:
    """A row of the table.

    Attributes:
        name: of the row.
        model: the network as convae describes it; the peer has the same, parameter by parameter.
        batch: images in a step.
        steps: in one turn of a side.
        files: whether both sides read JPEG files, and not values that are in memory already.
    """

    name: str
    model: dict[str, Any]
    batch: int
    steps: int
    files: bool = False

    @property
    def input(self) -> list[int]:
        """Channels, then sizes."""
        shape: list[int] = self.model["input"]
        return shape


def _block(kind: str, channels: int, activation: str, **given: Any) -> list[Any]:
    """A convolution with batch norm and activation."""
    return [{kind: {"channels": channels, "stride": 2, **given}}, "batch-norm", activation]


def _vanilla() -> dict[str, Any]:
    """VanillaVAE of PyTorch-VAE at 64×64."""
    widths = [32, 64, 128, 256, 512]
    encoder = [layer for width in widths for layer in _block("conv", width, "leaky-relu")]
    decoder: list[Any] = [{"linear": {"features": 2048}}, {"unflatten": {"to": [512, 2, 2]}}]
    for width in [256, 128, 64, 32, 32]:
        decoder += _block("conv-transpose", width, "leaky-relu")
    return {
        "input": [3, 64, 64],
        "encoder": [*encoder, "flatten"],
        "bottleneck": {"gaussian": {"latent": 128}},
        "decoder": [*decoder, {"conv": {"channels": 3}}],
        "likelihood": {"gaussian": {"link": "tanh"}},
    }


def _pythae(inner: int, image: list[int], latent: int, grid: int, decoder: list[Any]) -> dict[str, Any]:
    """The convolutional networks that pythae brings along: four 4×4 convolutions of 128 to 1024 channels."""
    encoder = [layer for width in (128, 256, 512, 1024) for layer in _block("conv", width, "relu", kernel=4, padding=1)]
    return {
        "input": image,
        "encoder": [*encoder, "flatten"],
        "bottleneck": {"gaussian": {"latent": latent}},
        "decoder": [{"linear": {"features": inner}}, {"unflatten": {"to": [1024, grid, grid]}}, *decoder],
        "likelihood": "gaussian",
    }


def _up(channels: int, kernel: int, padding: int, added: int, stride: int = 2) -> dict[str, Any]:
    return {
        "conv-transpose": {
            "channels": channels,
            "kernel": kernel,
            "stride": stride,
            "padding": padding,
            "output_padding": added,
        }
    }


_NORMED = ["batch-norm", "relu"]
_PYTHAE_MNIST = _pythae(
    16384, [1, 28, 28], 16, 4, [_up(512, 3, 1, 0), *_NORMED, _up(256, 3, 1, 1), *_NORMED, _up(1, 3, 1, 1)]
)
_PYTHAE_CELEBA = _pythae(
    65536,
    [3, 64, 64],
    64,
    8,
    [
        *[_up(512, 5, 2, 0), *_NORMED],
        *[_up(256, 5, 1, 0), *_NORMED],
        *[_up(128, 5, 2, 1), *_NORMED],
        _up(3, 5, 1, 0, stride=1),
    ],
)


def _torch_vae(side: int = 64) -> dict[str, Any]:
    return {"preset": "torch-vae", "input": [3, side, side], "latent": 64}


_TORCH_VAE = _torch_vae()
_SD_F8 = {"preset": "sd-f8", "input": [3, 64, 64], "width": 32, "multipliers": [1, 2, 4], "blocks": 1}

CASES = (
    Case("celeba-beta", {"preset": "celeba-beta", "input": [3, 128, 128]}, 64, 2),
    Case("vanilla-vae", _vanilla(), 64, 5),
    Case("torch-vae", _TORCH_VAE, 64, 10),
    Case("torch-vae-files", _TORCH_VAE, 64, 20, files=True),
    Case("pythae-mnist", _PYTHAE_MNIST, 64, 3),
    Case("pythae-celeba", _PYTHAE_CELEBA, 16, 1),
    Case("autoencoder-kl", _SD_F8, 16, 1),
)
GROWTH = (
    *(Case(f"torch-vae-batch-{batch}", _TORCH_VAE, batch, max(1, 640 // batch)) for batch in (1, 4, 16, 64, 256, 512)),
    *(Case(f"torch-vae-side-{side}", _torch_vae(side), 16, 40960 // side**2 or 2) for side in (32, 64, 128, 256, 512)),
)
"""What a further image costs as batches grow, and as images do."""
GPU = (
    Case("sd-f8-256", {"preset": "sd-f8", "input": [3, 256, 256]}, 16, 4),
    Case("tiny", {"preset": "torch-vae", "input": [3, 16, 16], "latent": 4}, 8, 4),
)
"""Rows for `benchmarks/gpu.sh` only: the autoencoder of latent diffusion as published, and a row to rehearse with."""
