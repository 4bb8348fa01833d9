"""Flattening of feature maps."""

from __future__ import annotations

import pytest
import torch

from convae.model.layers.flatten import Flatten


@pytest.mark.parametrize(
    ("shape", "layout"), [((3, 4, 5), torch.channels_last), ((3, 4, 5, 2), torch.channels_last_3d)], ids=["2-D", "3-D"]
)
def test_the_gradient_has_the_layout_of_the_map(shape: tuple[int, ...], layout: torch.memory_format) -> None:
    values = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = values.contiguous(memory_format=layout).requires_grad_()
    y = x * 1.0  # a gradient inside of a network keeps its strides; that of a leaf is copied to the leaf's
    strides = []
    y.register_hook(lambda gradient: strides.append(gradient.stride()))
    features = Flatten(shape)(y)
    torch.testing.assert_close(features, values.reshape(2, -1))
    factors = torch.arange(features.numel(), dtype=torch.float64).view_as(features)
    (features * factors).sum().backward()
    assert strides == [x.stride()]
    torch.testing.assert_close(x.grad, factors.view_as(values))
    assert torch.autograd.gradgradcheck(Flatten(shape), [x.detach().requires_grad_()])
