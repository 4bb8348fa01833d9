"""Residual connection around a list of layers."""

from __future__ import annotations

import torch

from convae.core.context import Context
from convae.model.layers.residual import Residual

SHAPE = (16, 16, 16)


def test_the_sum_has_the_layout_of_the_branch() -> None:
    generator = torch.Generator().manual_seed(0)
    layer = Residual(SHAPE, layers=["silu", {"conv": {"channels": SHAPE[0]}}]).to_empty(device="cpu")
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(generator=generator)
    layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stub
    x = torch.randn(8, *SHAPE, generator=generator)  # as many values as torch's convolution converts to the layout
    y = layer(x)
    assert x.is_contiguous()
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, x + layer.branch(x))


def test_features_keep_their_layout_where_several_latents_are_drawn() -> None:
    features = torch.randn(2, 4, 6, 6).contiguous(memory_format=torch.channels_last)
    repeated = Context(None, None, "mean", features={"6": features}).repeated(3)
    assert repeated.features["6"].is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(repeated.features["6"], features.repeat_interleave(3, 0))
