"""Group normalization in bf16 and channels_last, against torch's in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from convae.core.random import torch_generator
from convae.model.layers import _group_norm
from convae.model.layers.base.network import Network


def _layer(shape: tuple[int, ...], groups: int) -> tuple[torch.nn.Module, Tensor]:
    """A group norm, and bf16 images in channels_last whose mean is far from zero."""
    layer = Network(shape, [{"group-norm": {"groups": groups}}], "encoder")[0].to_empty(device="cpu")
    generator = torch_generator(5, "group norm")
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    x = torch.randn(5, *shape, generator=generator).mul(2).add(3).bfloat16()
    return layer, x.contiguous(memory_format=torch.channels_last)


def _gradients(layer: torch.nn.Module, x: Tensor) -> list[Tensor]:
    """The output, and the gradients of input, weight and bias."""
    x = x.clone().requires_grad_()
    y = layer(x)
    factor = torch.randn(y.shape, generator=torch_generator(5, "factor")).bfloat16().to(y.dtype)
    return [y.detach(), *torch.autograd.grad((y * factor).sum(), [x, *layer.parameters()])]


@pytest.mark.parametrize(("shape", "groups"), [((16, 8, 8), 16), ((16, 8, 8), 4), ((8, 36, 36), 4)])
def test_values_and_gradients_are_those_of_torch(
    shape: tuple[int, ...], groups: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_group_norm, "BLOCK", 2 * shape[0] * shape[1] * shape[2])  # several blocks, one of one image
    layer, x = _layer(shape, groups)
    assert _group_norm.pays(x, groups, next(layer.parameters()))
    found = _gradients(layer, x)
    for one, other, worst in zip(found, _gradients(layer.double(), x.double()), (4e-3, 4e-3, 1e-5, 1e-5), strict=True):
        assert (one.double() - other).norm() < worst * other.norm()


def test_a_gradient_has_a_gradient() -> None:
    layer, x = _layer((4, 5, 6), 2)

    def penalty(x: Tensor) -> Tensor:
        x = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(gradient.float().square().sum(), x)
        return second

    found, expected = penalty(x), penalty(x.float())
    assert (found.float() - expected).norm() < 0.05 * expected.norm()
