"""Layers of published autoencoders against torch's own functions and closed forms."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import convae
from convae.core.context import Context
from convae.core.errors import ConfigError, ShapeError
from convae.core.random import torch_generator
from convae.core.types import Shape
from convae.model.initialize import initialize
from convae.model.layers.base import Network
from convae.model.layers.base.features import feature_shapes


def network(shape: Shape, *layers: Any) -> Network:
    made = Network(shape, layers, "layers")
    initialize(made, 0)
    return made.eval()


def values(*shape: int) -> Tensor:
    return torch.randn(2, *shape, generator=torch_generator(0, "x"))


def test_rescale_maps_the_unit_range_to_the_signed_one_and_back() -> None:
    x = torch.rand(2, 3, 4, 4)
    there = network((3, 4, 4), {"rescale": {"scale": 2, "offset": -1}})(x)
    assert torch.equal(there, x * 2 - 1)
    torch.testing.assert_close(network((3, 4, 4), {"rescale": {"scale": 0.5, "offset": 0.5}})(there), x)
    with pytest.raises(ConfigError, match="scale"):
        network((3, 4, 4), {"rescale": {"scale": 0}})


def test_soft_clip_keeps_small_values_and_bounds_large_ones() -> None:
    found = network((1, 3), {"soft-clip": {"limit": 3}})(torch.tensor([[[1e-3, 1e6, -1e6]]]))
    torch.testing.assert_close(found, torch.tensor([[[1e-3, 3.0, -3.0]]]))


def test_rms_norm_is_that_of_torch_over_channels() -> None:
    x, norm = values(6, 3, 5), network((6, 3, 5), {"rms-norm": {"eps": 1e-5}})
    weight, bias = (parameter.normal_() for parameter in norm.state_dict().values())
    expected = F.rms_norm(x.movedim(1, -1), (6,), weight, 1e-5) + bias
    torch.testing.assert_close(norm(x), expected.movedim(-1, 1))


def test_glu_is_that_of_torch_with_the_gate_of_its_activation() -> None:
    x = values(8, 4)
    torch.testing.assert_close(network((8, 4), {"glu": {"activation": "sigmoid"}})(x), F.glu(x, 1))
    torch.testing.assert_close(network((8, 4), "glu")(x), x[:, :4] * F.silu(x[:, 4:]))
    with pytest.raises(ShapeError, match="even"):
        network((7, 4), "glu")


def test_shortcuts_average_and_repeat_channels() -> None:
    x = values(8, 4, 4)
    down = network((8, 4, 4), {"pixel-unshuffle": {"scale": 2}}, {"channel-average": {"channels": 16}})
    torch.testing.assert_close(down(x), F.pixel_unshuffle(x, 2).unflatten(1, (16, 2)).mean(2))
    up = network((8, 4, 4), {"channel-repeat": {"channels": 16}}, {"pixel-shuffle": {"scale": 2}})
    torch.testing.assert_close(up(x), F.pixel_shuffle(x.repeat_interleave(2, 1), 2))
    for layer in ({"channel-average": {"channels": 3}}, {"channel-repeat": {"channels": 12}}):
        with pytest.raises(ShapeError, match="8 channels"):
            network((8, 4, 4), layer)


def test_a_residual_takes_a_given_skip_and_checks_its_shape() -> None:
    x, average = values(8, 4, 4), {"channel-average": {"channels": 4}}
    layers = [{"conv": {"channels": 4, "kernel": 1}}]
    made = network((8, 4, 4), {"residual": {"layers": layers, "skip": [average]}})
    weight = made.state_dict()["0.branch.0.weight"]
    torch.testing.assert_close(made(x), F.conv2d(x, weight) + x.unflatten(1, (4, 2)).mean(2))
    with pytest.raises(ShapeError, match="skip"):
        network((8, 4, 4), {"residual": {"layers": layers, "skip": ["relu"]}})


def test_linear_attention_is_attention_with_products_of_rectified_keys_and_queries() -> None:
    x, made = values(8, 3, 5), network((8, 3, 5), {"linear-attention": {"head_channels": 4}})
    layer: Any = made[0]
    projected = layer.qkv(x).reshape(2, 2, 12, 15)
    query, key, value = projected.chunk(3, 2)
    weights = torch.einsum("bhcq,bhck->bhqk", query.relu(), key.relu())
    weights = (weights / weights.sum(-1, keepdim=True)).nan_to_num()  # a query may have no positive value
    attended = torch.einsum("bhqk,bhck->bhcq", weights, value).reshape(2, 8, 3, 5)
    torch.testing.assert_close(made(x), x + layer.out_proj(attended))


@pytest.mark.parametrize("given", [{"head_channels": 3}, {"head_channels": 4, "scales": [4]}])
def test_heads_and_scales_that_do_not_fit_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ShapeError, match=r"head_channels|scales"):
        network((8, 3, 5), {"linear-attention": given})


def test_spatial_norm_takes_gain_and_bias_from_a_smaller_feature() -> None:
    with feature_shapes({"latent": (3, 2, 2)}):
        made = network((4, 4, 4), {"spatial-norm": {"feature": "latent", "groups": 2}})
    x, feature, layer = values(4, 4, 4), values(3, 2, 2), made[0]
    large = feature.repeat_interleave(2, 2).repeat_interleave(2, 3)
    inner: Any = layer
    expected = F.group_norm(x, 2, eps=1e-6) * inner.conv_y(large) + inner.conv_b(large)
    torch.testing.assert_close(made(x, Context(features={"latent": feature})), expected)


def test_a_model_with_a_given_skip_is_described_and_built_again() -> None:
    spec = {"preset": "dc-ae", "input": [3, 8, 8], "latent": 2, "channels": [4, 4], "attention": 1, "head_channels": 4}
    spec |= {"encoder_blocks": [1, 1], "decoder_blocks": [1, 1]}
    model = convae.build(spec)
    assert convae.build(model.spec.model_dump(mode="json")).spec == model.spec
