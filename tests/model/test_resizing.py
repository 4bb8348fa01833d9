"""Networks without a flatten take images of other sizes, and say which."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor

import convae
from convae.core.errors import ShapeError
from convae.core.random import torch_generator
from convae.describe import write
from convae.model.layers.base import Layer

SPECS: list[tuple[dict[str, Any], tuple[int, ...]]] = [
    ({"preset": "flex-256", "input": [3, 32, 32], "width": 8}, (16, 16)),
    ({"preset": "sd-f8", "input": [3, 16, 24], "width": 8, "blocks": 1}, (8, 8)),
    ({"preset": "resnet", "input": [1, 16, 16], "size": "tiny", "grid": "spatial", "latent": 2}, (2, 2)),
    ({"preset": "dcgan", "input": [1, 15, 8], "filters": 4, "grid": "spatial", "latent": 2}, (4, 4)),
]


@pytest.mark.parametrize(("spec", "step"), SPECS, ids=lambda value: value["preset"] if isinstance(value, dict) else "")
def test_other_sizes_go_through_with_the_same_weights(spec: dict[str, Any], step: tuple[int, ...]) -> None:
    model = convae.build(spec).eval()
    assert model.size_step == step
    sizes = [size + 2 * by for size, by in zip(spec["input"][1:], step, strict=True)]
    x = torch.rand(2, spec["input"][0], *sizes, generator=torch_generator(0, "x"))
    out = model(x)
    assert out.likelihood.mean.shape == x.shape
    larger = convae.build({**model.spec.model_dump(), "input": [spec["input"][0], *sizes]}).eval()
    larger.load_state_dict(model.state_dict())
    torch.testing.assert_close(larger(x).likelihood.mean, out.likelihood.mean)
    same = model.with_sizes(sizes)
    assert same.input_shape == x.shape[1:]
    assert same.spec == larger.spec
    torch.testing.assert_close(same(x).likelihood.mean, out.likelihood.mean)
    with pytest.raises(ShapeError):
        model.with_sizes([sizes[0] + 1, *sizes[1:]])
    assert model.decode(out.latent).mean.shape == x.shape


def test_sizes_between_the_steps_are_refused_with_those_that_fit() -> None:
    model = convae.build(SPECS[0][0])
    with pytest.raises(ShapeError, match=r"3×32×32, .*multiples of 16×16, got 3×40×32"):
        model.encode(torch.rand(1, 3, 40, 32))
    with pytest.raises(ShapeError, match="got 3×0×32"):
        model.encode(torch.rand(1, 3, 0, 32))


def test_sizes_too_small_for_a_layer_are_refused_with_the_reason() -> None:
    layers = [{"conv": {"channels": 2, "kernel": 5, "padding": 0}}, {"conv-transpose": {"channels": 2, "kernel": 5}}]
    layers[1]["conv-transpose"]["padding"] = 0
    model = convae.build({"input": [1, 9, 9], "encoder": layers, "decoder": ["relu"]})
    assert model(torch.rand(1, 1, 6, 20)).latent.shape == (1, 1, 6, 20)
    with pytest.raises(
        ShapeError,
        match=r"1×9×9, .*got 1×3×9: model\.encoder\[0\] \(conv\): .* at least 5",
    ):
        model.encode(torch.rand(1, 1, 3, 9))


def test_a_flatten_ties_the_network_to_its_sizes() -> None:
    model = convae.build({"preset": "torch-vae", "input": [1, 16, 16], "max_filters": 8})
    assert model.size_step is None
    with pytest.raises(ShapeError, match="1×16×16, got 1×24×24"):
        model.encode(torch.rand(1, 1, 24, 24))


class Flat(Layer):
    """A flatten of a package that states nothing about sizes."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)


class Square(Layer):
    """The reverse, likewise."""

    def forward(self, x: Tensor) -> Tensor:
        return x.view(-1, 1, 8, 8)


def test_vectors_tie_the_network_to_its_sizes() -> None:
    spec = {
        "input": [1, 8, 8],
        "encoder": [f"{__name__}:Flat"],
        "decoder": [{"linear": {"features": 64}}, f"{__name__}:Square"],
    }
    model = convae.build({**spec, "bottleneck": {"gaussian": {"latent": 2}}})
    assert model.size_step is None
    with pytest.raises(ShapeError, match="1×8×8, got 1×16×16"):
        model.encode(torch.rand(1, 1, 16, 16))


def test_latents_of_other_grids_are_decoded_and_of_other_channels_not() -> None:
    model = convae.build(SPECS[0][0]).eval()
    assert model.decode(torch.zeros(1, 4, 3, 2)).mean.shape == (1, 3, 48, 32)
    with pytest.raises(ShapeError, match="latents are 4×2×2, got 3×2×2"):
        model.decode(torch.zeros(1, 3, 2, 2))


def test_the_first_structure_list_of_its_document_is_free_of_sizes() -> None:
    written = json.loads(write(convae.build({"preset": "flex-256", "input": [3, 64, 64], "width": 32}).spec, "codes"))
    assert convae.build(written).size_step == (16, 16)
