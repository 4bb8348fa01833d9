"""The layer `pad`, against NumPy, and what it is for: networks on periodic axes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import convae
from convae.core.errors import ShapeError
from convae.core.random import torch_generator
from convae.model.layers import LAYERS

IN_NUMPY = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def network(sizes: tuple[int, ...], *layers: Any) -> convae.VAE:
    """A model whose encoder begins with these layers."""
    encoder = [*layers, "flatten"]
    decoder = [{"linear": {"features": int(np.prod(sizes))}}, {"unflatten": {"to": [1, *sizes]}}]
    model = {"input": [1, *sizes], "encoder": encoder, "bottleneck": {"gaussian": {"latent": 2}}, "decoder": decoder}
    return convae.build(model, seed=0).eval()


@given(
    st.lists(st.tuples(st.integers(4, 7), st.integers(0, 3)), min_size=1, max_size=3), st.sampled_from(list(IN_NUMPY))
)
def test_every_mode_is_that_of_numpy(axes: list[tuple[int, int]], mode: Any) -> None:
    sizes, padding = zip(*axes, strict=True)
    layer = LAYERS.get("pad")((2, *sizes), padding=padding, mode=mode)
    x = torch.randn(2, 2, *sizes, generator=torch_generator(0, "x"))
    ends = [(0, 0), (0, 0), *((own, own) for own in padding)]
    expected: NDArray[np.float32] = np.pad(x.numpy(), ends, mode=IN_NUMPY[mode])  # type: ignore[call-overload]  # one of many
    np.testing.assert_array_equal(layer(x).numpy(), expected)


def test_a_convolution_after_circular_padding_moves_with_the_image() -> None:
    layers = [
        {"pad": {"padding": [0, 2], "mode": "circular"}},
        {"conv": {"channels": 3, "kernel": 5, "padding": [2, 0]}},
    ]
    model = network((6, 8), *layers)
    x = torch.rand(1, 1, 6, 8, generator=torch_generator(0, "x"))
    pad, conv = model.get_submodule("encoder.0"), model.get_submodule("encoder.1")
    before, after = conv(pad(x)), conv(pad(x.roll(3, 3)))
    torch.testing.assert_close(after, before.roll(3, 3))


@pytest.mark.parametrize("mode", IN_NUMPY)
@pytest.mark.parametrize("sizes", [(9, 7), (11,), (6, 4, 5)])
def test_slices_are_those_of_the_whole_image(mode: str, sizes: tuple[int, ...]) -> None:
    pair = [{"pad": {"padding": 2, "mode": mode}}, {"conv": {"channels": 2, "kernel": 5, "padding": 0}}]
    model = network(sizes, *pair, "silu", *pair)
    images = torch.rand(2, 1, *sizes, generator=torch_generator(0, "x"))
    whole = model.encode(images).mean
    for rows in (1, 2, 4):
        model.use_slices(rows)
        torch.testing.assert_close(model.encode(images).mean, whole)
    assert not any("pad" in layer for layer in model.layers_computed_whole())


@pytest.mark.parametrize(("mode", "padding", "least"), [("reflect", 4, 5), ("circular", 5, 5)])
def test_axes_shorter_than_the_padding_are_refused(mode: str, padding: int, least: int) -> None:
    with pytest.raises(ShapeError, match=f"at least {least} positions"):
        network((4, 9), {"pad": {"padding": padding, "mode": mode}})
    network((least, 9), {"pad": {"padding": padding, "mode": mode}})
