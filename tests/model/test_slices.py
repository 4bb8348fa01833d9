"""A network computed in slices gives what it gives for the whole image."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

import convae
from convae.core.errors import ConfigError, ShapeError
from convae.core.random import torch_generator
from convae.model.layers import LAYERS
from convae.model.layers.base.features import feature_shapes
from convae.model.layers.base.network import Network

DCGAN: dict[str, Any] = {"preset": "dcgan", "input": [1, 64, 24], "filters": 4, "grid": "spatial", "latent": 2}
STEPS = st.one_of(
    st.builds(
        lambda **given: {"conv": {"channels": 3, **given}},
        kernel=st.integers(1, 5),
        stride=st.integers(1, 3),
        padding=st.sampled_from(["same", "keras", 0, 1]),
        dilation=st.integers(1, 2),
    ),
    st.builds(
        lambda **given: {"conv-transpose": {"channels": 3, **given}},
        kernel=st.integers(2, 4),
        stride=st.integers(1, 2),
        output_padding=st.just(0),
    ),
    st.sampled_from(
        ["batch-norm", "silu", "layer-norm", {"max-pool": {}}, {"avg-pool": {}}, {"upsample": {"mode": "linear"}}]
    ),
    st.sampled_from([{"upsample": {}}, {"pixel-unshuffle": {}}, {"residual": {"layers": [{"conv": {"channels": 3}}]}}]),
)


@example(layers=[{"conv": {"channels": 3, "kernel": 2, "padding": 0}}, {"pixel-unshuffle": {}}], size=21, rows=1)
@given(layers=st.lists(STEPS, min_size=1, max_size=6), size=st.integers(20, 60), rows=st.integers(1, 30))
@settings(max_examples=60)
def test_any_local_layers_give_the_same_in_slices(layers: list[Any], size: int, rows: int) -> None:
    try:
        network = Network((3, size, 9), layers, "encoder")
    except ShapeError:
        return
    assert network.sees_everything() is None
    network = made(network)
    x = torch.rand(2, 3, size, 9, dtype=torch.float64, generator=torch_generator(0, "x"))
    with torch.no_grad():
        whole = network(x)
        network.rows = rows
        torch.testing.assert_close(network(x), whole, rtol=0, atol=1e-9)


def made(network: Network) -> Network:
    network = network.to_empty(device="cpu").double().eval()
    for module in network.modules():
        for tensor in [*module.parameters(recurse=False), *module.buffers(recurse=False)]:
            nn.init.uniform_(tensor, 0.1, 1, generator=torch_generator(0, "weights", str(tuple(tensor.shape))))
    return network


@pytest.mark.parametrize("shape", [(2, 48), (2, 40, 8, 6)])
def test_signals_and_volumes(shape: tuple[int, ...]) -> None:
    network = made(Network(shape, [{"conv": {"channels": 2, "stride": 2}}, {"conv-transpose": {"channels": 1}}], "x"))
    x = torch.rand(1, *shape, dtype=torch.float64)
    with torch.no_grad():
        whole = network(x)
        network.rows = 10
        torch.testing.assert_close(network(x), whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize("rows", [1, 16, 40, 1000])
def test_a_model_encodes_and_decodes_in_slices_and_less_is_computed_at_a_time(rows: int) -> None:
    model = convae.build(DCGAN).eval()
    x = torch.rand(2, 1, 320, 24, generator=torch_generator(0, "x"))
    tallest = []
    model.get_submodule("encoder.0").register_forward_pre_hook(lambda _, given: tallest.append(given[0].shape[2]))
    with torch.no_grad():
        whole = model(x)
        model.use_slices(rows)
        sliced = model(x)
        torch.testing.assert_close(sliced.latent, whole.latent)
        torch.testing.assert_close(sliced.likelihood.mean, whole.likelihood.mean)
        assert max(tallest[1:]) < 320 or rows == 1000
        model.use_slices(None)
        assert torch.equal(model(x).latent, whole.latent)


def test_training_goes_over_the_whole_image() -> None:
    model = convae.build(DCGAN)
    x = torch.rand(4, 1, 64, 24, generator=torch_generator(0, "x"))
    model.use_slices(16)
    seen = []
    model.get_submodule("encoder.0").register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[2]))
    model.train()(x)
    assert seen == [64]


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        ("flatten", r"\[0\] \(flatten\)"),
        ({"group-norm": {"groups": 1}}, "group-norm"),
        ("instance-norm", "instance-norm"),
    ],
)
def test_what_sees_the_whole_image_is_refused(layer: Any, why: str) -> None:
    written = {"input": [4, 8, 8], "encoder": [layer], "bottleneck": {"gaussian": {"latent": 2}}, "decoder": [layer]}
    written["decoder"] = (
        [{"linear": {"features": 256}}, {"unflatten": {"to": [4, 8, 8]}}]
        if layer == "flatten"
        else [layer, {"conv": {"channels": 4}}]
    )
    with pytest.raises(ConfigError, match=rf"model\.encoder.*{why}"):
        convae.build(written).use_slices(4)


def test_a_layer_deep_inside_is_found_and_no_rows_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.encoder\[\d+\] \(residual-block\)"):
        convae.build({"preset": "sd-f8", "input": [3, 16, 16], "width": 8, "blocks": 1}).use_slices(8)
    with pytest.raises(ConfigError, match="rows must be at least 1, got 0"):
        convae.build(DCGAN).use_slices(0)


@pytest.mark.parametrize("name", LAYERS.names())
def test_every_layer_that_is_called_local_is(name: str) -> None:
    kind = LAYERS.get(name)
    channels, *sizes = kind.example_shape
    shape = (channels, 6 * sizes[0], *sizes[1:]) if sizes else kind.example_shape
    try:
        with feature_shapes({"example": shape} if name != "feature" else {}):
            network = made(Network(shape, [{name: dict(kind.example)}], "encoder"))
    except ShapeError:
        return
    if network.sees_everything():
        return
    x = torch.rand(1, *shape, dtype=torch.float64, generator=torch_generator(0, "x"))
    with torch.no_grad():
        whole = network(x)
        network.rows = 5
        torch.testing.assert_close(network(x), whole, rtol=0, atol=1e-9)
