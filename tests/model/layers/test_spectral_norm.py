"""Spectrally normalized layers, against the singular value decomposition."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from narrow import narrow
from torch import Tensor, nn
from torch.nn import functional as F

import convae
from convae.core.random import torch_generator
from convae.model.layers.spectral_norm import SpectralNorm
from convae.model.vae import VAE

LAYERS: list[Any] = [
    {"linear": {"features": 48}},
    {"unflatten": {"to": [3, 4, 4]}},
    {"conv-transpose": {"channels": 5, "stride": 2}},
    "relu",
    {"conv": {"channels": 2}},
]
SPEC: dict[str, Any] = {
    "input": [2, 8, 8],
    "encoder": ["flatten"],
    "bottleneck": {"deterministic": {"latent": 3}},
    "decoder": [{"spectral-norm": {"layers": LAYERS}}],
}


def layer_of(model: VAE) -> SpectralNorm:
    return next(module for module in model.modules() if isinstance(module, SpectralNorm))


def converged(layer: SpectralNorm) -> None:
    layer.train()
    for _ in range(200):
        layer(torch.randn(2, 3, generator=torch_generator(0)))
    layer.eval()


def test_kernels_are_divided_by_their_largest_singular_value() -> None:
    layer = layer_of(convae.build(SPEC, seed=1))
    converged(layer)
    linear, _, transposed, _, conv = (narrow(nn.Module, module) for module in layer.branch)
    z = torch.randn(2, 3, generator=torch_generator(1))
    kernels = {}
    for name, module, dim in (("linear", linear, 0), ("transposed", transposed, 1), ("conv", conv, 0)):
        weight = narrow(Tensor, module.weight).detach()
        kernels[name] = weight / torch.linalg.svdvals(weight.transpose(0, dim).flatten(1))[0]
    hidden = F.linear(z, kernels["linear"], narrow(Tensor, linear.bias)).view(2, 3, 4, 4)
    biases = [narrow(Tensor, module.bias) for module in (transposed, conv)]
    hidden = F.conv_transpose2d(hidden, kernels["transposed"], biases[0], 2, 1, output_padding=1).relu()
    torch.testing.assert_close(layer(z), F.conv2d(hidden, kernels["conv"], biases[1], padding=1), rtol=1e-4, atol=1e-5)


def test_the_gradient_is_that_of_torchs_spectral_norm() -> None:
    layer = layer_of(convae.build({**SPEC, "decoder": [{"spectral-norm": {"layers": LAYERS}}]}, seed=1))
    converged(layer)
    linear = layer.branch[0]
    theirs = nn.utils.parametrizations.spectral_norm(nn.Linear(3, 48), n_power_iterations=200)
    raw = dict(theirs.named_parameters())
    raw["parametrizations.weight.original"].data.copy_(narrow(Tensor, linear.weight))
    raw["bias"].data.copy_(narrow(Tensor, linear.bias))
    z = torch.randn(4, 3, generator=torch_generator(2))
    single = SpectralNorm((3,), layers=[{"linear": {"features": 48}}])
    single.to_empty(device="cpu")
    single.reset(torch_generator(3))
    single.branch.load_state_dict(nn.Sequential(linear).state_dict())
    converged(single)
    single(z).square().sum().backward()
    theirs.train()(z).square().sum().backward()
    gradient = narrow(Tensor, single.branch.get_parameter("0.weight").grad)
    expected = narrow(Tensor, raw["parametrizations.weight.original"].grad)
    torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-4)


def test_vectors_change_in_training_only_and_are_saved() -> None:
    model = convae.build(SPEC, seed=1)
    layer = layer_of(model)
    before = layer.get_buffer("vector0").clone()
    images = torch.rand(2, 2, 8, 8, generator=torch_generator(0))
    model.eval()(images)
    assert torch.equal(layer.get_buffer("vector0"), before)
    model.train()(images)
    assert not torch.equal(layer.get_buffer("vector0"), before)
    assert "decoder.0.vector0" in model.state_dict()


def test_accumulated_steps_are_those_of_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVAE_CACHE", str(tmp_path / "cache"))
    decoder = [{"spectral-norm": {"layers": [*LAYERS[:-1], {"conv": {"channels": 1}}]}}]
    training = {"steps": 4, "batch_size": 12, "pictures_every": 0, "precision": "float32"}
    states = []
    for slices in (1, 3):
        recipe = {
            "data": {"source": "digits", "validation": 0.01},
            "model": {**SPEC, "input": [1, 8, 8], "decoder": decoder},
            "objective": {"reconstruction": 1},
            "training": {**training, "accumulate": slices},
        }
        states.append(convae.train(recipe, out=tmp_path / str(slices), quiet=True).last.state_dict())
    for name, values in states[0].items():
        torch.testing.assert_close(values, states[1][name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("iterations", [1, 3])
def test_a_lipschitz_bound(iterations: int) -> None:
    layers = [{"linear": {"features": 20}}, "leaky-relu", {"linear": {"features": 9}}]
    layer = SpectralNorm((7,), layers=layers, iterations=iterations)
    layer.to_empty(device="cpu")
    layer.reset(torch_generator(0))
    with torch.no_grad():
        for number, parameter in enumerate(layer.parameters()):
            parameter.copy_(3 * torch.randn(parameter.shape, generator=torch_generator(number)))
        layer.train()
        for _ in range(300):
            layer(torch.zeros(1, 7))
        a, b = torch.randn(2, 500, 7, generator=torch_generator(5))
        assert ((layer(a) - layer(b)).norm(dim=1) <= (1 + 1e-4) * (a - b).norm(dim=1)).all()
