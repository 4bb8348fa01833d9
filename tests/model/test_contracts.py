"""What every registered layer, bottleneck, likelihood and preset keeps, whoever adds it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import convae
from convae.core.errors import ShapeError
from convae.core.random import torch_generator
from convae.core.types import Shape
from convae.model.bottlenecks import BOTTLENECKS
from convae.model.description import Spec
from convae.model.initialise import initialise
from convae.model.inputs import unchecked_values
from convae.model.layers import LAYERS
from convae.model.likelihoods import LIKELIHOODS
from convae.model.mirror import raw_channels
from convae.model.network import Network, plain
from convae.model.presets import PRESETS
from convae.model.spec import resolve
from convae.model.summary import summary
from convae.model.vae import VAE

FEATURES: Shape = (4, 4, 4)


def described(input: Shape, encoder: list[Any], bottleneck: Any, decoder: list[Any], likelihood: Any) -> dict[str, Any]:
    return {
        "input": list(input),
        "encoder": encoder,
        "bottleneck": bottleneck,
        "decoder": decoder,
        "likelihood": likelihood,
    }


def back_from(latent: Shape, likelihood: Any, to: Shape) -> list[Any]:
    """A decoder from any latent to what a likelihood needs for images of shape `to`."""
    raw = (raw_channels(likelihood, to), *to[1:])
    flat: list[Any] = ["flatten"] if len(latent) > 1 else []
    return [*flat, {"linear": {"features": math.prod(raw)}}, {"unflatten": {"to": list(raw)}}]


def around_layer(name: str) -> dict[str, Any]:
    """A model with one layer's smallest example in its encoder."""
    layer = LAYERS.get(name)
    shape: Shape = layer.example_shape
    image = shape if len(shape) > 1 else (1, shape[0])
    entry = {name: dict(layer.example)}
    encoder = [entry] if len(shape) > 1 else ["flatten", entry]
    after = Network(image, encoder, "encoder").shape_out
    encoder += ["flatten"] if len(after) > 1 else []
    return described(image, encoder, {"gaussian": {"latent": 3}}, back_from((3,), "bernoulli", image), "bernoulli")


def around_bottleneck(name: str) -> dict[str, Any]:
    bottleneck = BOTTLENECKS.get(name)
    entry = {name: dict(bottleneck.example)}
    latent: Shape = bottleneck(FEATURES, **bottleneck.example).latent_shape
    encoder = [{"conv": {"channels": FEATURES[0], "stride": 2}}]
    return described((1, 8, 8), encoder, entry, back_from(latent, "bernoulli", (1, 8, 8)), "bernoulli")


def around_likelihood(name: str) -> dict[str, Any]:
    entry = {name: dict(LIKELIHOODS.get(name).example)}
    return described((2, 6, 5), ["flatten"], {"gaussian": {"latent": 3}}, back_from((3,), entry, (2, 6, 5)), entry)


EXAMPLES = [
    *(pytest.param(around_layer, name, id=f"layer-{name}") for name in LAYERS.names()),
    *(pytest.param(around_bottleneck, name, id=f"bottleneck-{name}") for name in BOTTLENECKS.names()),
    *(pytest.param(around_likelihood, name, id=f"likelihood-{name}") for name in LIKELIHOODS.names()),
]
every_example = pytest.mark.parametrize(("around", "name"), EXAMPLES)


def images(model: VAE, count: int = 3) -> Tensor:
    return torch.rand(count, *model.input_shape, generator=torch_generator(0, "test"))


@pytest.mark.parametrize("name", LAYERS.names())
@pytest.mark.parametrize("axes", [None, 1, 2, 3])
def test_a_layer_gives_the_shape_that_the_trace_promised(name: str, axes: int | None) -> None:
    layer = LAYERS.get(name)
    shape: Shape = layer.example_shape if axes is None else (layer.example_shape[0], *(7, 8, 6)[:axes])
    try:
        network = Network(shape, [{name: dict(layer.example)}], "layers")
    except ShapeError as error:
        assert axes is not None, error
        return
    initialise(network, 0)
    x = torch.randn(2, *shape)
    assert tuple(network(x).shape[1:]) == network.shape_out
    assert network.eval()(x[:1]).isfinite().all()
    reach = network.reach()
    assert reach is None or len(reach.kernel) == len(shape) - 1


@every_example
def test_gradients_reach_every_parameter(around: Any, name: str) -> None:
    model = convae.build(around(name))
    # Both signs reach the first layer, since some layers treat only one of them.
    with unchecked_values():
        out = model(images(model) * 2 - 1, torch_generator(1, "noise"))
    cost = sum((term.sum() for term in out.terms.values()), -out.likelihood.log_prob(images(model)).sum())
    cost.backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.any(), key


@every_example
def test_it_saves_and_loads_to_equal_outputs(around: Any, name: str, tmp_path: Path) -> None:
    model = convae.build(around(name)).train()
    model(images(model), torch_generator(1, "noise"))
    again = convae.load(convae.save(model, tmp_path / "model"))
    x = images(model)
    first, second = model.eval()(x), again(x)
    assert torch.equal(first.likelihood.mean, second.likelihood.mean)
    assert torch.equal(first.likelihood.log_prob(x), second.likelihood.log_prob(x))
    assert torch.equal(first.latent, second.latent)
    assert again.spec == model.spec


@every_example
def test_its_stored_form_stands_for_itself(around: Any, name: str) -> None:
    stored = VAE(resolve(around(name))).spec
    as_json = json.loads(json.dumps(stored.model_dump(mode="json")))
    again = VAE(resolve(as_json)).spec
    assert again == stored
    assert again.model_dump(mode="json") == as_json


@every_example
def test_it_exports(around: Any, name: str) -> None:
    model = convae.build(around(name)).eval()
    x = images(model)

    class Reconstruct(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: Tensor) -> Tensor:
            return self.model(x).likelihood.mean

    exported = torch.export.export(Reconstruct(), (x,))
    assert torch.allclose(exported.module()(x), model(x).likelihood.mean, atol=1e-6)


@every_example
def test_its_summary_adds_up(around: Any, name: str) -> None:
    model = convae.build(around(name))
    rows = summary(model)
    heads = sum(parameter.numel() for parameter in model.head.parameters())
    assert sum(row.parameters for row in rows) + heads == sum(p.numel() for p in model.parameters())
    assert rows[-1].shape == (raw_channels(model.spec.likelihood, model.input_shape), *model.input_shape[1:])


@pytest.mark.parametrize("name", PRESETS.names())
def test_a_preset_stands_for_itself_and_answers_its_input(name: str) -> None:
    spec = resolve(name)
    model = VAE(spec)
    assert isinstance(resolve(plain(model.spec.model_dump())), Spec)
    assert VAE(model.spec).spec == model.spec
    assert model.name == name


@pytest.mark.parametrize("registry", [LAYERS, BOTTLENECKS, LIKELIHOODS, PRESETS], ids=lambda registry: registry.kind)
def test_every_entry_says_what_it_is(registry: Any) -> None:
    for name in registry.names():
        summary_line = registry.summary(name)
        assert summary_line.endswith("."), name
        assert len(summary_line) > 15, name
