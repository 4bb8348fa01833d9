"""Overlapping tiles: exact where a network sees no further than the overlap, close elsewhere, refused where wrong."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import convae
from convae.core.errors import ConfigError
from convae.core.random import torch_generator

LOCAL: dict[str, Any] = {
    "input": [1, 24, 20],
    "encoder": [{"conv": {"channels": 4, "stride": 2, "padding": "keras"}}, "silu"],
    "bottleneck": {"gaussian": {"latent": 2}},
    "decoder": [{"upsample": {}}, {"conv": {"channels": 1}}],
}
SD_F8: dict[str, Any] = {"preset": "sd-f8", "input": [3, 32, 32], "width": 8, "blocks": 1, "latent": 2}


def test_pointwise_networks_are_exact_and_borders_blend() -> None:
    pointwise = {**LOCAL, "encoder": [{"pixel-unshuffle": {}}], "decoder": [{"pixel-shuffle": {}}]}
    pointwise["bottleneck"] = {"gaussian": {"latent": 4}}
    model = convae.build(pointwise).eval()
    x = torch.rand(2, 1, 24, 20, generator=torch_generator(0, "x"))
    with torch.no_grad():
        whole = model(x)
        model.use_tiles(8, 4)
        tiled = model(x)
    torch.testing.assert_close(tiled.latent, whole.latent)
    torch.testing.assert_close(tiled.likelihood.mean, whole.likelihood.mean)


def test_tiles_differ_where_a_tile_ends_and_use_slices_replaces_them() -> None:
    model = convae.build(LOCAL).eval()
    x = torch.rand(2, 1, 24, 20, generator=torch_generator(0, "x"))
    seen = []
    model.get_submodule("encoder.0").register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[2:]))
    with torch.no_grad():
        whole = model(x).latent
        seen.clear()
        model.use_tiles(12, 0)
        tiled = model(x).latent
        assert set(seen) == {(12, 12)}
        assert len(seen) == 4
        changed = (tiled - whole).abs().amax((0, 1)) > 1e-6
        assert changed[5].all()  # the last row of the upper tiles, whose padding is that of a border
        assert not changed[:5, :2].any()
        model.use_slices(8)
        torch.testing.assert_close(model(x).latent, whole)


def test_norms_and_attention_see_a_tile_and_other_sizes_work() -> None:
    model = convae.build(SD_F8).eval()
    x = torch.rand(1, 3, 64, 48, generator=torch_generator(0, "x"))
    with torch.no_grad():
        whole = model(x)
        model.use_tiles(40, 16)
        tiled = model(x)
        model.use_tiles(None)
        assert torch.equal(model(x).latent, whole.latent)
    assert tiled.latent.shape == whole.latent.shape
    assert tiled.likelihood.mean.shape == x.shape
    difference = (tiled.likelihood.mean - whole.likelihood.mean).abs()
    assert 1e-6 < difference.max() < 1


@pytest.mark.parametrize(
    ("size", "overlap", "why"), [(16, 16, "below"), (12, 0, r"8×8"), (16, 4, r"8×8"), (16, -8, "at least 0")]
)
def test_sizes_that_do_not_fit_are_refused(size: int, overlap: int, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        convae.build(SD_F8).use_tiles(size, overlap)


@pytest.mark.parametrize(
    "spec",
    [
        {
            **LOCAL,
            "encoder": ["flatten"],
            "decoder": [{"linear": {"features": 480}}, {"unflatten": {"to": [1, 24, 20]}}],
        },
        {**LOCAL, "encoder": [{"conv": {"channels": 4, "stride": 2}}, {"quantize": {"vq": {"codes": 4}}}]},
    ],
)
def test_models_that_need_the_entire_image_are_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="entire image"):
        convae.build(spec).use_tiles(16)
