"""Models on a GPU against float64 on the CPU."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from gpu.devices import exact_float32, on_devices
from narrow import narrow
from torch import Tensor

import convae
from convae.core.noise import CountedNoise
from convae.core.posterior import CodePosterior
from convae.core.types import Batch
from convae.model.bottlenecks.codes import Codes
from convae.model.quantizers import QUANTIZERS
from convae.model.vae import VAE
from convae.objective.objective import build_objective

SMALL = {"width": 8, "multipliers": [1, 2], "blocks": 1}
MODELS: dict[str, dict[str, Any]] = {
    "torch-vae": {"preset": "torch-vae", "input": [3, 16, 16], "latent": 4},
    "sd-f8": {"preset": "sd-f8", "input": [3, 16, 16], **SMALL},
    "hierarchy": {"preset": "ladder", "input": [3, 16, 16], "latent": 3, "size": "tiny"},
}


def losses_and_gradients(model: VAE, images: Tensor, device: str) -> tuple[dict[str, Tensor], list[Tensor]]:
    """The terms of each image, and all gradients, with the same noise whatever the device and type."""
    objective = build_objective({"reconstruction": {}, "kl": {}})
    model.zero_grad(set_to_none=True)
    x = images.to(device, next(model.parameters()).dtype)
    noise = CountedNoise(0, (0,), 0, len(x))
    if x.dtype == torch.float64:
        # The noise of float32, not another stream of numbers.
        noise = _Widened(0, (0,), 0, len(x))
    losses = objective(Batch.of(x), model(x, noise))
    torch.autograd.backward(losses.total)
    gradients = [value.grad for value in model.parameters() if value.grad is not None]
    return {name: values.detach() for name, values in losses.terms.items()}, gradients


class _Widened(CountedNoise):
    """The numbers of float32 in a wider type."""

    def normal(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return super().normal(shape, torch.float32).to(dtype)


@on_devices
@pytest.mark.parametrize("name", list(MODELS))
def test_terms_and_gradients_are_those_of_float64(name: str, device: str) -> None:
    model = convae.build(MODELS[name]).train()
    images = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    wanted, exact = losses_and_gradients(copy.deepcopy(model).double(), images, "cpu")
    model.to(device)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stub
    with exact_float32(device):
        found, gradients = losses_and_gradients(model, images, device)
    for term, values in wanted.items():
        torch.testing.assert_close(found[term].cpu().double(), values, rtol=1e-4, atol=1e-3)
    norm = torch.nn.utils.get_total_norm(exact)
    for own, other in zip(gradients, exact, strict=True):
        assert float((own.cpu().double() - other).norm()) < 2e-4 * float(norm)


@on_devices
def test_half_precision_changes_the_terms_by_its_rounding_only(device: str) -> None:
    model = convae.build(MODELS["torch-vae"]).train().to(device)
    images = torch.rand(32, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    wide, _ = losses_and_gradients(model, images, device)
    for half in (torch.bfloat16, torch.float16):
        with torch.autocast(device, half):
            halved, _ = losses_and_gradients(model, images, device)
        for term, values in wide.items():
            assert halved[term].dtype == torch.float32
            assert float(halved[term].mean()) == pytest.approx(float(values.mean()), rel=0.02, abs=0.05)


@on_devices
@pytest.mark.parametrize("name", QUANTIZERS.names())
def test_codes_under_bf16_are_those_of_float32(name: str, device: str) -> None:
    latent = {} if name in ("fsq", "lfq", "bsq") else {"latent": 6}
    bottleneck = {"codes": {**latent, "quantizer": {name: dict(QUANTIZERS.get(name).example)}}}
    model = convae.build(
        {
            "input": [1, 8, 8],
            "encoder": [{"conv": {"channels": 8, "stride": 2}}],
            "bottleneck": bottleneck,
            "decoder": [{"conv-transpose": {"channels": 1, "stride": 2}}],
        }
    ).eval()
    features = torch.randn(64, *model.encoder(torch.zeros(1, 1, 8, 8)).shape[1:])
    with torch.no_grad():
        wanted = narrow(CodePosterior, model.bottleneck.posterior(features)).codes
        codes_of = narrow(Codes, model.to(device).bottleneck)
        features = features.to(device)
        latents = codes_of.head_output(features)
        codes = codes_of.nearest_codes(latents)
        with torch.autocast(device, torch.bfloat16):
            assert torch.equal(codes_of.nearest_codes(latents), codes)
            found = codes_of.posterior(features).codes.cpu()
    # The head rounds latents to 8 bits: of those that are nearly in the middle of two codes, some change sides.
    assert float((found == wanted).float().mean()) > 0.97


@on_devices
def test_an_artifact_moves_between_devices(device: str, tmp_path: Path) -> None:
    model = convae.build(MODELS["torch-vae"]).to(device).eval()
    convae.save(model, tmp_path / "model")
    images = torch.rand(4, 3, 16, 16)
    here, there = convae.load(tmp_path / "model"), convae.load(tmp_path / "model", device)
    assert {str(value.device) for value in here.parameters()} == {"cpu"}
    assert {value.device.type for value in there.parameters()} == {device}
    for name, value in here.state_dict().items():
        assert torch.equal(there.state_dict()[name].cpu(), value)
    torch.testing.assert_close(
        there.encode(images.to(device)).mean.cpu(), here.encode(images).mean, rtol=1e-2, atol=1e-2
    )


@on_devices
def test_noise_is_the_same_on_every_device(device: str) -> None:
    noise = CountedNoise(0, (3,), 2, 8)
    model = convae.build(MODELS["torch-vae"]).to(device)
    posterior = model.encode(torch.rand(4, 3, 16, 16, device=device))
    drawn = (posterior.sample(noise) - posterior.mean) / torch.exp(0.5 * posterior.logvar)
    torch.testing.assert_close(drawn.detach().cpu(), noise.normal((4, 4), torch.float32), rtol=1e-3, atol=1e-4)
