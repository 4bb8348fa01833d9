"""What PyTorch does to whole models: transforms of functions, copies, compilation; and looks, which change nothing."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
import threading
from typing import Any

import pytest
import torch
from narrow import narrow
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev, vmap

import convae
from convae.core.output import Output
from convae.model.vae import VAE

SPECS: dict[str, dict[str, Any]] = {
    "gaussian": {
        "input": [1, 8, 8],
        "encoder": [
            {"conv": {"channels": 4, "stride": 2}},
            "batch-norm",
            "silu",
            {"dropout": {"rate": 0.5}},
            "flatten",
        ],
        "bottleneck": {"gaussian": {"latent": 2}},
        "decoder": [
            {"linear": {"features": 64}},
            {"unflatten": {"to": [4, 4, 4]}},
            "batch-norm",
            {"conv-transpose": {"channels": 2, "stride": 2, "output_padding": 1}},
        ],
        "likelihood": {"gaussian": {"sigma": "pixel"}},
        "classifier": ["batch-norm", {"linear": {"features": 3}}],
    },
    "vq": {
        "input": [1, 8, 8],
        "encoder": [{"conv": {"channels": 8, "stride": 2}}, "batch-norm"],
        "bottleneck": {"vq": {"codes": 16, "latent": 4}},
        "decoder": [{"conv-transpose": {"channels": 1, "stride": 2, "output_padding": 1}}],
    },
}
X = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=[(name, mode) for name in SPECS for mode in (True, False)], ids=str)
def model(request: pytest.FixtureRequest) -> VAE:
    name, mode = request.param
    return convae.build(SPECS[name]).train(mode)


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_a_look_changes_nothing_and_is_the_same_in_every_mode(model: VAE) -> None:
    before, modes = state(model), [module.training for module in model.modules()]
    latents = model.encode(X).mean
    again = model.decode(latents).mean
    sampled = model.sample(3, torch.Generator().manual_seed(0))
    if model.classifier is not None:
        model.classify(latents)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    model.eval()
    assert torch.equal(model.encode(X).mean, latents)
    assert torch.equal(model.decode(latents).mean, again)
    assert torch.equal(model.sample(3, torch.Generator().manual_seed(0)), sampled)


def test_a_pass_in_training_moves_statistics() -> None:
    model = convae.build(SPECS["gaussian"])
    before = state(model)
    model(X)
    assert not torch.equal(model.state_dict()["encoder.1.running_mean"], before["encoder.1.running_mean"])


def test_looks_in_several_threads_and_at_modules_of_others_change_nothing() -> None:
    model = convae.build(SPECS["gaussian"])
    narrow(nn.Sequential, model.decoder).append(nn.BatchNorm2d(2))  # a module of torch's own
    before = state(model)

    def look() -> None:
        for _ in range(20):
            model.sample(2)
            model.encode(X)

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(module.training for module in model.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_transforms_of_functions_give_what_a_loop_does(model: VAE) -> None:
    latents = model.encode(X).mean.detach()
    mapped = vmap(lambda x: model.encode(x[None]).mean[0])(X)
    assert torch.allclose(mapped, latents, atol=1e-5)
    density = vmap(lambda z, x: model.decode(z[None]).log_prob(x[None])[0])(latents, X)
    assert torch.allclose(density, model.decode(latents).log_prob(X), rtol=1e-4)
    jacobian = jacrev(lambda z: model.decode(z).mean)(latents[:1])
    assert jacobian.shape == (1, 1, 8, 8, *latents[:1].shape)
    model.eval()
    parameters: dict[str, Tensor] = dict(model.named_parameters())
    buffers = dict(model.named_buffers())

    def cost(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        output = narrow(Output, functional_call(model, (parameters, buffers), (x[None],)))
        return -output.likelihood.log_prob(x[None]).sum()

    each = vmap(grad(cost), in_dims=(None, 0))(parameters, X)
    total = -model(X).likelihood.log_prob(X).sum()
    wanted = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
    for found, expected in zip(each.values(), wanted, strict=True):
        assert torch.allclose(found.sum(0), torch.zeros(()) if expected is None else expected, rtol=1e-3, atol=1e-3)


def test_gradients_of_gradients_are_there() -> None:
    model = convae.build(SPECS["gaussian"])
    weight = next(model.parameters())
    (first,) = torch.autograd.grad(model.encode(X).kl().sum(), weight, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), weight)
    assert second.isfinite().all()
    assert second.any()


def test_copies_and_pickles_compute_the_same(model: VAE) -> None:
    latents = model.encode(X).mean
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(again.encode(X).mean, latents)
        assert again.spec == model.spec


COMPILED = """
import sys, json, torch, convae
for spec in json.loads(sys.argv[1]):
    model, x = convae.build(spec).train(), torch.rand(4, 1, 8, 8)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    wanted = model.encode(x).mean
    found = torch.compile(model.encode, backend="eager", fullgraph=True)(x).mean
    assert torch.allclose(found, wanted, atol=1e-5)
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
# With codes, a pass in training has all that one of a Gaussian has, and updates of a codebook.
assert torch.compile(model, backend="eager")(x).likelihood.log_prob(x).isfinite().all()
"""


# Each layer adds frames to trace.
SHORT: list[dict[str, Any]] = [
    {
        **SPECS["gaussian"],
        "encoder": ["batch-norm", {"dropout": {"rate": 0.5}}, "flatten"],
        "decoder": [{"linear": {"features": 128}}, {"unflatten": {"to": [2, 8, 8]}}],
        "classifier": None,
    },
    SPECS["vq"],
]


def test_compiled_looks_are_the_same_and_change_nothing() -> None:
    # In a process of its own: what checks annotations in the tests cannot be traced.
    specs = json.dumps(SHORT)
    done = subprocess.run([sys.executable, "-c", COMPILED, specs], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
