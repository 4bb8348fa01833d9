"""Presets at the sizes of their originals, and at every other."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import convae
from convae.core.random import torch_generator
from convae.model.spec import resolve
from convae.model.summary import summary
from convae.model.vae import VAE


def trace(spec: Any, *kinds: str) -> list[tuple[int, ...]]:
    """The shapes after each layer whose name is one of `kinds`."""
    return [row.shape for row in summary(VAE(resolve(spec))) if row.layer.split()[0] in kinds]


def test_torch_vae_has_exactly_the_shapes_of_its_original() -> None:
    shapes = trace("torch-vae", "conv", "flatten", "gaussian", "linear", "unflatten", "conv-transpose")
    assert shapes == [
        *[(32, 32, 32), (64, 16, 16), (128, 8, 8), (8192,)],
        (64,),
        *[(8192,), (128, 8, 8), (64, 16, 16), (32, 32, 32), (3, 64, 64)],
    ]


def test_celeba_beta_has_exactly_the_shapes_of_its_original() -> None:
    shapes = trace("celeba-beta", "conv", "flatten", "gaussian", "linear", "unflatten", "conv-transpose")
    assert shapes == [
        *[(32, 64, 64), (64, 32, 32), (128, 16, 16), (256, 8, 8), (16384,)],
        (256,),
        *[(16384,), (256, 8, 8)],
        *[(256, 16, 16), (128, 32, 32), (64, 64, 64), (32, 128, 128), (3, 128, 128)],
    ]
    weights = {name: tensor.numel() for name, tensor in VAE(resolve("celeba-beta")).named_parameters()}
    # Two dense maps of 16384 to 256 in one, and one of 256 to 16384.
    assert weights["bottleneck.weight"] == 2 * 256 * 16384
    assert weights["decoder.0.weight"] == 256 * 16384


INPUTS = [(1, 28, 28), (3, 33, 47), (2, 9, 64), (1, 100), (4, 37), (1, 12, 10, 9), (3, 1, 1)]


@pytest.mark.parametrize("preset", ["torch-vae", "celeba-beta"])
@pytest.mark.parametrize("input", INPUTS, ids=str)
def test_any_input_comes_back_in_its_own_shape(preset: str, input: tuple[int, ...]) -> None:
    model = convae.build({"preset": preset, "input": input, "latent": 3}).eval()
    x = torch.rand(2, *input, generator=torch_generator(0, "x"))
    out = model(x)
    assert out.likelihood.mean.shape == x.shape
    assert out.latent.shape == (2, 3)


@pytest.mark.parametrize("preset", ["torch-vae", "celeba-beta"])
def test_a_likelihood_with_two_values_for_each_gets_twice_the_channels(preset: str) -> None:
    spec = {"preset": preset, "input": [3, 16, 16], "likelihood": {"discretised-logistic": {"scale": "pixel"}}}
    model = convae.build(spec)
    assert model.decoder.shape_out == (6, 16, 16)
    assert model.sample(2, torch_generator(0)).shape == (2, 3, 16, 16)
