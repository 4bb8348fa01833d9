"""Presets against independent transcriptions of their originals in plain PyTorch, with the same weights."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import convae
from convae.core.random import torch_generator
from convae.model.vae import VAE


class PlainTorchVAE(nn.Module):
    """Three stride-2 convolutions each way, written out with the library's own modules."""

    def __init__(self, channels: int, latent: int, most: int) -> None:
        super().__init__()
        widths = (most // 4, most // 2, most)
        self.down1 = nn.Conv2d(channels, widths[0], 3, 2, 1)
        self.down2 = nn.Conv2d(widths[0], widths[1], 3, 2, 1)
        self.down3 = nn.Conv2d(widths[1], widths[2], 3, 2, 1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths)
        self.mean = nn.Linear(most * 64, latent)
        self.logvar = nn.Linear(most * 64, latent)
        self.dense = nn.Linear(latent, most * 64)
        self.up1 = nn.ConvTranspose2d(widths[2], widths[1], 3, 2, 1, output_padding=1)
        self.up2 = nn.ConvTranspose2d(widths[1], widths[0], 3, 2, 1, output_padding=1)
        self.up3 = nn.ConvTranspose2d(widths[0], channels, 3, 2, 1, output_padding=1)
        self.norm_up1 = nn.BatchNorm2d(widths[1])
        self.norm_up2 = nn.BatchNorm2d(widths[0])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        for conv, norm in zip((self.down1, self.down2, self.down3), self.norms, strict=True):
            x = F.leaky_relu(norm(conv(x)))
        x = x.flatten(1)
        mean, logvar = self.mean(x), self.logvar(x)
        y = self.dense(mean).unflatten(1, (-1, 8, 8))
        y = F.leaky_relu(self.norm_up1(self.up1(y)))
        y = F.leaky_relu(self.norm_up2(self.up2(y)))
        return mean, logvar, torch.sigmoid(self.up3(y))


class PlainImageVAE(nn.Module):
    """Its default structure at 1×28×28 with features of 64×7×7, sizes 28, 18, 11, 7."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.slope = nn.PReLU()
        self.down = nn.ModuleList([nn.Conv2d(1, 22, 2, 2, 4), nn.Conv2d(22, 43, 2, 2, 2), nn.Conv2d(43, 64, 5, 1, 0)])
        self.features = nn.Linear(64 * 7 * 7, 2 * latent)
        self.dense = nn.Linear(latent, 64 * 7 * 7)
        self.up = nn.ModuleList(
            [
                nn.ConvTranspose2d(64, 43, 5, 1, 0),
                nn.ConvTranspose2d(43, 22, 2, 2, 2),
                nn.ConvTranspose2d(22, 1, 2, 2, 4),
            ]
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        for conv in self.down:
            x = self.slope(conv(x))
        mean, logvar = self.features(x.flatten(1)).chunk(2, dim=1)
        y = self.dense(mean).view(-1, 64, 7, 7)
        y = self.up[1](self.slope(self.up[0](y)))
        return mean, logvar, torch.sigmoid(self.up[2](self.slope(y)))


def randomise(module: nn.Module) -> None:
    """Other values than the first ones everywhere, running statistics too."""
    for index, tensor in enumerate([*module.parameters(), *module.buffers()]):
        if tensor.is_floating_point():
            drawn = torch.rand(tensor.shape, generator=torch_generator(7, "randomise", index))
            tensor.data.copy_(0.2 * (drawn - 0.5) if tensor.ndim > 1 else 0.5 + drawn)


def carry(source: nn.Module, target: VAE, names: Mapping[str, str]) -> None:
    """Copies the state of a transcription, module by module, into our model."""
    state = target.state_dict()
    for theirs, ours in names.items():
        for key, tensor in source.get_submodule(theirs).state_dict().items():
            if key != "num_batches_tracked":
                state[f"{ours}.{key}"].copy_(tensor)


def compare(theirs: nn.Module, ours: VAE, x: Tensor) -> None:
    out = ours.eval()(x)
    with torch.no_grad():
        mean, logvar, image = theirs.eval()(x)
    torch.testing.assert_close(out.posterior.mean, mean, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(out.posterior.logvar, logvar, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(out.likelihood.mean, image, atol=1e-6, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
@torch.no_grad()
def test_torch_vae_gives_the_outputs_of_its_transcription(channels: int) -> None:
    theirs = PlainTorchVAE(channels, latent=5, most=16)
    randomise(theirs)
    ours = convae.build({"preset": "torch-vae", "input": [channels, 64, 64], "latent": 5, "max_filters": 16})
    downs = {f"down{n + 1}": f"encoder.{3 * n}" for n in range(3)}
    norms = {f"norms.{n}": f"encoder.{3 * n + 1}" for n in range(3)}
    ups = {"dense": "decoder.0", "up1": "decoder.2", "norm_up1": "decoder.3", "up2": "decoder.5"}
    carry(theirs, ours, {**downs, **norms, **ups, "norm_up2": "decoder.6", "up3": "decoder.8"})
    for name in ("weight", "bias"):
        both = torch.cat([getattr(theirs.mean, name), getattr(theirs.logvar, name)])
        getattr(ours.bottleneck, name).copy_(both)
    compare(theirs.double(), ours.double(), torch.rand(3, channels, 64, 64, dtype=torch.float64))


@torch.no_grad()
def test_image_vae_gives_the_outputs_of_its_transcription() -> None:
    theirs = PlainImageVAE(latent=2)
    randomise(theirs)
    ours = convae.build({"preset": "image-vae", "latent": 2, "features": [64, 7, 7]})
    downs = {f"down.{n}": f"encoder.{2 * n}" for n in range(3)}
    ups = {f"up.{n}": f"decoder.{2 + 2 * n}" for n in range(3)}
    carry(theirs, ours, {**downs, **ups, "features": "bottleneck", "dense": "decoder.0"})
    for name, parameter in ours.named_parameters():
        if name.endswith("slope"):
            parameter.fill_(theirs.slope.weight.item())
    compare(theirs.double(), ours.double(), torch.rand(3, 1, 28, 28, dtype=torch.float64))
