"""Presets against independent transcriptions of their originals in plain PyTorch, with the same weights."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from originals import ImageVAE, TorchVAE, randomize
from torch import Tensor, nn

import convae
from convae.model.vae import VAE


@pytest.fixture(autouse=True)
def seed() -> None:
    """Weights and images of which no log-variance reaches the bound that ours have."""
    torch.manual_seed(0)


def carry(source: nn.Module, target: VAE, names: Mapping[str, str]) -> None:
    """Copies the state of a transcription, module by module, into our model."""
    state = target.state_dict()
    for theirs, ours in names.items():
        for key, tensor in source.get_submodule(theirs).state_dict().items():
            if key != "num_batches_tracked":
                state[f"{ours}.{key}"].copy_(tensor)


def compare(theirs: nn.Module, ours: VAE, x: Tensor) -> None:
    out = ours.eval()(x)
    mean, logvar, image = theirs.eval()(x)
    torch.testing.assert_close(out.posterior.mean, mean, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(out.posterior.logvar, logvar, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(out.likelihood.mean, image, atol=1e-6, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
@torch.no_grad()
def test_torch_vae_gives_the_outputs_of_its_transcription(channels: int) -> None:
    theirs = TorchVAE(channels, latent=5, most=16)
    randomize(theirs)
    ours = convae.build({"preset": "torch-vae", "input": [channels, 64, 64], "latent": 5, "max_filters": 16})
    downs = {f"encoder.conv{n + 1}": f"encoder.{3 * n}" for n in range(3)}
    norms = {f"encoder.bn{n + 1}": f"encoder.{3 * n + 1}" for n in range(3)}
    ups = {f"decoder.conv{n + 1}": f"decoder.{2 + 3 * n}" for n in range(3)}
    norms_up = {f"decoder.bn{n + 1}": f"decoder.{3 + 3 * n}" for n in range(2)}
    carry(theirs, ours, {**downs, **norms, **ups, **norms_up, "decoder.lin1": "decoder.0"})
    for name in ("weight", "bias"):
        halves = [getattr(theirs.encoder[half], name) for half in ("proj_mu", "proj_log_var")]
        getattr(ours.bottleneck, name).copy_(torch.cat(halves))
    compare(theirs.double(), ours.double(), torch.rand(3, channels, 64, 64, dtype=torch.float64))


@torch.no_grad()
def test_image_vae_gives_the_outputs_of_its_transcription() -> None:
    theirs = ImageVAE(latent=2)
    randomize(theirs)
    ours = convae.build({"preset": "image-vae", "latent": 2, "features": [64, 7, 7]})
    downs = {f"encoder.conv.{2 * n}": f"encoder.{2 * n}" for n in range(3)}
    ups = {f"decoder.conf.{2 * n}": f"decoder.{2 + 2 * n}" for n in range(3)}
    carry(theirs, ours, {**downs, **ups, "encoder.affine": "bottleneck", "decoder.affine": "decoder.0"})
    for name, parameter in ours.named_parameters():
        if name.endswith("slope"):
            slope = "encoder.conv.1.weight" if name.startswith("encoder") else "decoder.conf.1.weight"
            parameter.fill_(theirs.get_parameter(slope).item())
    compare(theirs.double(), ours.double(), torch.rand(3, 1, 28, 28, dtype=torch.float64))
