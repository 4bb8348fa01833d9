from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import convae
from convae.core.device import on_meta
from convae.core.errors import ConfigError
from convae.core.random import torch_generator
from convae.core.types import Shape
from convae.model.initialize import initialize
from convae.model.layers import LAYERS
from convae.model.layers.base import Activation, Layer
from convae.model.layers.base.network import Network

ACTIVATIONS = [name for name in LAYERS.names() if issubclass(LAYERS.get(name), Activation)]
KINDS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "conv": ((48, 12, 12), {"conv": {"channels": 48}}),
    "conv-transpose": ((48, 12, 12), {"conv-transpose": {"channels": 48, "kernel": 3}}),
    "linear": ((512,), {"linear": {"features": 512}}),
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_values_keep_their_size_through_thirty_layers(activation: str, kind: str) -> None:
    shape, layer = KINDS[kind]
    # These two bend upwards, so that no size of the values is stable without norms: what is a little too large or
    # too small at first grows away from one. The others return to it.
    low, high = (1e-4, 1e4) if activation in ("gelu", "silu") else (0.1, 10)
    network = Network(shape, [layer, activation] * 30, "stack").eval()
    initialize(network, 3)
    x = torch.randn(4, *shape, generator=torch_generator(0, "x"))
    with torch.no_grad():
        for index, layer_module in enumerate(network):
            x = layer_module(x)
            if isinstance(layer_module, Activation):
                continue
            assert low < x.square().mean().item() < high, index


@pytest.mark.parametrize("depth", [1, 30])
def test_a_residual_stack_begins_close_to_the_identity(depth: int) -> None:
    block = {"residual": {"layers": ["relu", {"conv": {"channels": 16}}, "relu", {"conv": {"channels": 16}}]}}
    network = Network((16, 8, 8), [block] * depth, "stack")
    initialize(network, 0)
    x = torch.randn(4, 16, 8, 8, generator=torch_generator(0, "x"))
    change = (network(x) - x).square().mean().item()
    assert 0.001 < change < 0.05 * depth


def test_equal_seeds_give_equal_weights_and_others_other_ones() -> None:
    spec = {"preset": "torch-vae", "input": [1, 16, 16], "latent": 2, "max_filters": 8}
    first, again, other = (convae.build(spec, seed=seed).state_dict() for seed in (5, 5, 6))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["encoder.0.weight"], other["encoder.0.weight"])


def test_the_weights_of_two_layers_are_independent() -> None:
    network = Network((8, 6, 6), [{"conv": {"channels": 8}}, {"conv": {"channels": 8}}], "stack")
    initialize(network, 0)
    assert not torch.equal(network.get_parameter("0.weight"), network.get_parameter("1.weight"))


def test_posteriors_begin_close_to_unit_variance_and_likelihoods_close_to_gray() -> None:
    model = convae.build({"preset": "celeba-beta", "input": [3, 32, 32], "latent": 16})
    out = model(torch.rand(8, 3, 32, 32), torch_generator(0))
    assert out.posterior.logvar.abs().max() < 1
    assert 0.2 < out.likelihood.mean.mean() < 0.8
    assert out.posterior.kl().max() < 100


@pytest.mark.parametrize("end", [[], [{"rescale": {"scale": 0.5, "offset": 0.5}}], ["sigmoid"], ["tanh"]])
def test_the_output_starts_at_the_mean_of_the_images(end: list[Any]) -> None:
    likelihood = (
        "bernoulli" if not end else {"gaussian": {"link": "identity", "sigma": "pixel" if end == ["tanh"] else 1}}
    )
    raw = 4 if end == ["tanh"] else 2
    layers = [{"linear": {"features": raw * 16}}, {"unflatten": {"to": [4 * raw, 2, 2]}}, "pixel-shuffle", *end]
    spec = {
        "input": [2, 4, 4],
        "encoder": ["flatten"],
        "bottleneck": {"gaussian": {"latent": 3}},
        "decoder": layers,
        "likelihood": likelihood,
    }
    model = convae.build(spec, image_mean=[0.1, 0.6])
    mean = model.decode(torch.zeros(1, 3)).mean
    torch.testing.assert_close(mean, torch.tensor([0.1, 0.6]).view(1, 2, 1, 1).expand(1, 2, 4, 4))


def test_a_mean_at_the_end_of_the_range_saturates_no_link() -> None:
    spec = {"preset": "torch-vae", "input": [1, 16, 16], "latent": 2, "max_filters": 8}
    model = convae.build(spec, image_mean=[0.0])
    assert -5 < model.get_parameter("decoder.8.bias").item() < -4


def test_a_decoder_without_a_last_bias_starts_from_plain_weights() -> None:
    spec: dict[str, Any] = {
        "input": [1, 4, 4],
        "encoder": ["flatten"],
        "bottleneck": {"gaussian": {"latent": 3}},
        "decoder": [{"linear": {"features": 16}}, "relu", {"unflatten": {"to": [1, 4, 4]}}],
        "likelihood": "bernoulli",
    }
    plain, given = convae.build(spec), convae.build(spec, image_mean=[0.1])
    for name, value in plain.state_dict().items():
        assert torch.equal(value, given.state_dict()[name]), name


def test_the_mean_of_the_images_is_one_number_per_channel() -> None:
    with pytest.raises(ConfigError, match=r"image_mean.*3"):
        convae.build("torch-vae", image_mean=[0.5])


class OfTorch(Layer):
    """A layer of modules of torch, with a value of its own."""

    def __init__(self, shape: Shape, *, value: float | None = 0.5, persistent: bool = True) -> None:
        super().__init__(shape)
        self.value = value
        self.inner = nn.Sequential(nn.Conv2d(shape[0], 50, 3), nn.BatchNorm2d(50), nn.PReLU(), nn.Flatten(2))
        self.attention = nn.MultiheadAttention(36, 4)
        self.register_buffer("own", torch.empty(2), persistent=persistent)

    def reset(self, generator: torch.Generator) -> None:
        if self.value is not None:
            self.get_buffer("own").fill_(self.value)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.inner(x)
        found: Tensor = self.attention(inner, inner, inner)[0]
        return found * self.get_buffer("own").mean()


def of_torch(seed: int, **options: Any) -> nn.Sequential:
    with on_meta():
        model = nn.Sequential(OfTorch((3, 8, 8), **options))
    initialize(model, seed)
    return model


def test_modules_of_torch_inside_of_a_layer_begin_as_in_torch() -> None:
    torch.manual_seed(0)
    first, same, other = of_torch(1).state_dict(), of_torch(1).state_dict(), of_torch(2).state_dict()
    assert torch.rand(1) == torch.rand(1, generator=torch.Generator().manual_seed(0))
    assert all(torch.equal(value, same[name]) for name, value in first.items())
    kernel = first["0.inner.0.weight"]
    assert not torch.equal(kernel, other["0.inner.0.weight"])
    assert kernel.std().item() == pytest.approx(1 / math.sqrt(3 * 27), rel=0.1)
    assert first["0.inner.1.running_var"].tolist() == [1.0] * 50
    assert first["0.inner.2.weight"].tolist() == [0.25]
    assert first["0.attention.out_proj.bias"].abs().max() == 0
    assert first["0.own"].tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    ("options", "part"),
    [({"value": None}, "0.own: is not initialized"), ({"persistent": False}, "0.own: .*persistent")],
)
def test_values_that_would_be_lost_are_refused(options: dict[str, Any], part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        of_torch(0, **options)
