"""A network computed in slices gives what it gives for the whole image."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import convae
from convae.core.context import Context
from convae.core.errors import ConfigError, ShapeError
from convae.core.random import torch_generator
from convae.model.layers import LAYERS
from convae.model.layers.base import ContextLayer
from convae.model.layers.base.features import feature_shapes
from convae.model.layers.base.network import Network
from convae.model.layers.base.slices import Slices

DCGAN: dict[str, Any] = {"preset": "dcgan", "input": [1, 64, 24], "filters": 4, "grid": "spatial", "latent": 2}
SD_F8: dict[str, Any] = {"preset": "sd-f8", "input": [3, 40, 16], "width": 8, "blocks": 1, "latent": 2}
CONV: dict[str, Any] = {"conv": {"channels": 4}}
STEPS = st.one_of(
    st.builds(
        lambda **given: {"conv": {"channels": 4, **given}},
        kernel=st.integers(1, 5),
        stride=st.integers(1, 3),
        padding=st.sampled_from(["same", "keras", 0, 1, 6]),
        dilation=st.integers(1, 2),
    ),
    st.builds(
        lambda **given: {"conv-transpose": {"channels": 4, **given}},
        kernel=st.integers(2, 4),
        stride=st.integers(1, 2),
        padding=st.sampled_from(["same", 0, 1]),
        output_padding=st.just(0),
    ),
    st.sampled_from(
        ["batch-norm", "silu", "layer-norm", {"max-pool": {}}, {"avg-pool": {"kernel": 3, "stride": 2}}, "rms-norm"]
    ),
    st.sampled_from(
        [
            {"upsample": {}},
            {"upsample": {"mode": "linear"}},
            {"pixel-unshuffle": {}},
            {"pixel-shuffle": {}},
            {"resize": {"to": [17, 8]}},
            {"residual": {"layers": [CONV]}},
        ]
    ),
    st.sampled_from(
        [
            {"group-norm": {"groups": 2}},
            "instance-norm",
            {"attention": {"heads": 2, "norm": {"group-norm": {"groups": 2}}}},
            {"linear-attention": {"head_channels": 2, "scales": [3]}},
            "squeeze-excitation",
            {"residual-block": {"channels": 4, "norm": {"group-norm": {"groups": 2}}}},
            {"residual-block": {"channels": 6, "stride": 2, "norm": "instance-norm"}},
            {"residual": {"layers": [{"pixel-unshuffle": {}}, CONV], "skip": [{"avg-pool": {}}, CONV]}},
            {"spectral-norm": {"layers": [CONV, "instance-norm", CONV]}},
        ]
    ),
)


@example(
    layers=[{"conv": {"channels": 4, "kernel": 2, "padding": 0}}, {"pixel-unshuffle": {}}], size=21, rows=1, memory=1
)
@example(
    layers=[{"conv-transpose": {"channels": 4, "kernel": 2, "stride": 2, "output_padding": 0}}],
    size=16,
    rows=4,
    memory=1,
)
@given(
    layers=st.lists(STEPS, min_size=1, max_size=5),
    size=st.integers(16, 30),
    rows=st.integers(4, 20),
    memory=st.sampled_from([1, 10_000, 1 << 30]),
)
@settings(max_examples=30)
def test_any_layers_give_the_same_in_slices(layers: list[Any], size: int, rows: int, memory: int) -> None:
    try:
        network = Network((4, size, 7), layers, "encoder")
    except ShapeError:
        return
    network = made(network)
    x = torch.rand(2, 4, size, 7, dtype=torch.float64, generator=torch_generator(0, "x"))
    with torch.no_grad():
        whole = network(x)
        network.slices = Slices(rows, memory)
        torch.testing.assert_close(network(x), whole, rtol=1e-9, atol=1e-9)


def made(network: Network) -> Network:
    network = network.to_empty(device="cpu").double().eval()
    for module in network.modules():
        for tensor in [*module.parameters(recurse=False), *module.buffers(recurse=False)]:
            nn.init.uniform_(tensor, 0.1, 1, generator=torch_generator(0, "weights", str(tuple(tensor.shape))))
    return network


@pytest.mark.parametrize("shape", [(4, 48), (4, 22, 6, 5)])
@pytest.mark.parametrize("memory", [1, 1 << 30])
def test_signals_and_volumes(shape: tuple[int, ...], memory: int) -> None:
    norm = {"group-norm": {"groups": 2}}
    layers = [
        {"residual-block": {"channels": 4, "norm": norm}},
        {"conv": {"channels": 4, "stride": 2, "padding": "keras"}},
        {"attention": {"norm": norm}},
        {"linear-attention": {"head_channels": 2, "norm": norm}},
        {"conv-transpose": {"channels": 6, "stride": 2}},
        {"residual-block": {"channels": 4, "norm": norm}},
    ]
    network = made(Network(shape, layers, "x"))
    x = torch.rand(1, *shape, dtype=torch.float64)
    with torch.no_grad():
        whole = network(x)
        network.slices = Slices(5, memory)
        torch.testing.assert_close(network(x), whole, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("rows", [8, 40, 1000])
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


def test_one_model_of_a_published_structure_is_exact_for_other_sizes() -> None:
    model = convae.build(SD_F8).eval()
    x = torch.rand(2, 3, 56, 24, generator=torch_generator(0, "x"))
    with torch.no_grad():
        whole = model(x)
        for rows, memory in ((16, None), (20, 1)):
            model.use_slices(rows, memory=memory)
            sliced = model(x)
            assert (sliced.latent - whole.latent).abs().max() < 1e-5
            assert (sliced.likelihood.mean - whole.likelihood.mean).abs().max() < 1e-5
    assert model.layers_computed_whole() == []


def test_a_latent_that_is_a_vector_and_layers_that_need_the_entire_image() -> None:
    decoder = [
        {"linear": {"features": 192}},
        {"unflatten": {"to": [4, 8, 6]}},
        {"upsample": {}},
        {"conv": {"channels": 1}},
    ]
    spec = {"input": [1, 16, 12], "encoder": [CONV, "flatten"], "bottleneck": {"gaussian": {"latent": 2}}}
    model = convae.build({**spec, "decoder": decoder}).eval()
    x = torch.rand(2, 1, 16, 12, generator=torch_generator(0, "x"))
    with torch.no_grad():
        whole = model(x)
        model.use_slices(5)
        torch.testing.assert_close(model(x).likelihood.mean, whole.likelihood.mean)
    (place,) = model.layers_computed_whole()
    assert "encoder[1] (flatten)" in place


class Largest(TorchDispatchMode):
    """Records the largest tensor, in values."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.values = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if isinstance(found, torch.Tensor) and not found.is_meta:
            self.values = max(self.values, found.numel())
        return found


@pytest.mark.parametrize(("memory", "less"), [(1, 2), (40_000, 2)])
def test_no_tensor_is_as_large_as_the_largest_map(memory: int, less: int) -> None:
    model = convae.build({**SD_F8, "input": [3, 96, 8], "attention": False}).eval()
    z = torch.rand(1, 2, 12, 1, generator=torch_generator(0, "z"))
    with torch.no_grad():
        with Largest() as whole:
            model.decode(z)
        model.use_slices(12, memory=memory)
        with Largest() as sliced:
            model.decode(z)
    assert sliced.values * less < whole.values


def test_automatic_slices_begin_where_an_image_takes_more_than_the_memory() -> None:
    model = convae.build(SD_F8).eval()
    x = torch.rand(1, 3, 40, 16, generator=torch_generator(0, "x"))
    with torch.no_grad():
        whole = model(x)
        model.use_slices("auto")
        assert torch.equal(model(x).likelihood.mean, whole.likelihood.mean)
        model.use_slices("auto", memory=30_000)
        sliced = model(x).likelihood.mean
    assert not torch.equal(sliced, whole.likelihood.mean)
    torch.testing.assert_close(sliced, whole.likelihood.mean, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("given", "why"), [((0,), "rows"), (("auto",), "memory")])
def test_less_than_one_is_refused(given: tuple[Any, ...], why: str) -> None:
    with pytest.raises(ConfigError, match=rf"{why} must be at least 1, got 0"):
        convae.build(DCGAN).use_slices(*given, memory=0)


def test_a_layer_that_reports_of_slices_is_named() -> None:
    class Reports(ContextLayer):
        keeps_shape = True

        def forward(self, x: torch.Tensor, context: Context | None = None) -> torch.Tensor:
            if context is not None:
                context.report_latent("own", x)
            return x

    network = Network((4, 8, 8), [], "encoder")
    network.append(Reports((4, 8, 8)))
    network.slices = Slices(4)
    with torch.no_grad(), pytest.raises(ConfigError, match=r"Reports .*over_positions"):
        network.eval()(torch.rand(1, 4, 8, 8), Context())


@pytest.mark.parametrize("name", LAYERS.names())
def test_every_layer_gives_the_same_in_slices(name: str) -> None:
    kind = LAYERS.get(name)
    channels, *sizes = kind.example_shape
    shape = (channels, 6 * sizes[0], *sizes[1:]) if sizes else kind.example_shape
    try:
        with feature_shapes({"example": shape} if name != "feature" else {}):
            network = made(Network(shape, [{name: dict(kind.example)}], "encoder"))
    except ShapeError:
        return
    x = torch.rand(1, *shape, dtype=torch.float64, generator=torch_generator(0, "x"))
    beside = torch.rand(1, *shape, dtype=torch.float64, generator=torch_generator(0, "beside"))
    features = {} if name == "feature" else {"example": beside}
    with torch.no_grad():
        whole, context = network(x, Context(features=dict(features))), Context(features=dict(features))
        network.slices = Slices(5)
        torch.testing.assert_close(network(x, context), whole, rtol=0, atol=1e-9)
    if name == "feature":
        torch.testing.assert_close(context.features["example"], x)
