"""The gradients of convolutions, against the library's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from convae.core.random import torch_generator
from convae.model.layers._convolution import Geometry, convolve, weight_gradient
from convae.model.layers.base.network import Network

CASES = {
    "plain": ("conv", {"channels": 5}, (4, 9, 7)),
    "strided": ("conv", {"channels": 5, "stride": 2}, (3, 9, 12)),
    "few-channels-out": ("conv", {"channels": 2}, (6, 8, 7)),
    "pointwise": ("conv", {"channels": 5, "kernel": 1}, (4, 6, 5)),
    "even": ("conv", {"channels": 3, "kernel": [4, 2], "stride": [2, 1], "padding": 1}, (2, 8, 9)),
    "keras": ("conv", {"channels": 3, "stride": 2, "padding": "keras"}, (2, 8, 9)),
    "unpadded": ("conv", {"channels": 3, "kernel": 3, "stride": 3, "padding": 0}, (2, 11, 10)),
    "much-padding": ("conv", {"channels": 2, "kernel": 3, "padding": 4}, (3, 5, 6)),
    "grouped": ("conv", {"channels": 6, "groups": 2}, (4, 6, 6)),
    "dilated": ("conv", {"channels": 3, "dilation": 2}, (2, 9, 9)),
    "transposed": ("conv-transpose", {"channels": 3, "stride": 2}, (4, 5, 6)),
    "transposed-few": ("conv-transpose", {"channels": 2, "kernel": 5, "stride": 2, "padding": 1}, (4, 4, 5)),
    "transposed-even": ("conv-transpose", {"channels": 3, "kernel": 4, "stride": 2, "padding": 1}, (2, 4, 4)),
    "transposed-plain": ("conv-transpose", {"channels": 3, "kernel": 3}, (2, 5, 4)),
}


def _values(*shape: int, key: int) -> Tensor:
    return torch.randn(shape, generator=torch_generator(3, "convolution", key))


def _layer(case: str) -> tuple[torch.nn.Module, Tensor]:
    name, given, shape = CASES[case]
    layer = Network(shape, [{name: given}], "encoder")[0].to_empty(device="cpu")
    with torch.no_grad():
        for number, parameter in enumerate(layer.parameters()):
            parameter.copy_(_values(*parameter.shape, key=number))
    return layer, _values(3, *shape, key=9)


def _gradients(layer: torch.nn.Module, x: Tensor) -> list[Tensor]:
    x = x.clone(memory_format=torch.channels_last).requires_grad_()
    y = layer(x)
    (y * _values(*y.shape, key=10).to(y.dtype)).sum().backward()
    assert x.grad is not None
    return [y.detach(), x.grad, *(p.grad for p in layer.parameters() if p.grad is not None)]


@pytest.mark.parametrize("capability", ["AVX2", "AVX2-deep", "AVX512"])
@pytest.mark.parametrize("case", CASES)
def test_gradients_are_the_librarys(case: str, capability: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = _layer(case)
    for parameter in layer.parameters():
        parameter.grad = None
    monkeypatch.setattr("convae.model.layers._convolution._slow_library", lambda: capability.startswith("AVX2"))
    if capability == "AVX2-deep":
        monkeypatch.setattr("convae.model.layers._convolution.DEEP", 0)
    found = _gradients(layer, x)
    for parameter in layer.parameters():
        parameter.grad = None
    # Without a weight that trains, the library does all of it, in float64.
    wide = layer.double()
    with monkeypatch.context() as patch:
        patch.setattr("convae.model.layers._convolution._Convolution.apply", _library)
        wanted = _gradients(wide, x.double())
    assert found[0].shape == wanted[0].shape
    assert len(found) == len(wanted) == 2 + len(list(layer.parameters()))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-4)


def _library(x: Tensor, weight: Tensor, bias: Tensor | None, g: Geometry) -> Tensor:
    return torch.convolution(x, weight, bias, g.stride, g.padding, g.dilation, g.transposed, g.output_padding, g.groups)


@pytest.mark.parametrize("stride", [(1, 1), (2, 3)])
@pytest.mark.parametrize("images", [1, 7])
def test_patches_are_cut_into_pieces_that_fit_the_cache(
    stride: tuple[int, int], images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    geometry = Geometry(stride, (1, 0), (1, 1), (0, 0))
    x, weight = _values(images, 3, 8, 9, key=1), _values(4, 3, 3, 2, key=2)
    y = convolve(x, weight, None, geometry)
    grad = _values(*y.shape, key=3)
    whole = weight_gradient(x, grad, weight, geometry)
    monkeypatch.setattr("convae.model.layers._convolution.PATCH_BYTES", 1)
    torch.testing.assert_close(weight_gradient(x, grad, weight, geometry), whole, rtol=1e-5, atol=1e-5)


def test_many_channels_at_few_places_are_a_product(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convae.model.layers._convolution._slow_library", lambda: True)
    x, weight = _values(1, 64, 2, 2, key=1), _values(64, 64, 3, 3, key=2).requires_grad_()
    called = []
    monkeypatch.setattr("convae.model.layers._convolution._forward", lambda *_: called.append(1) or x)
    convolve(x, weight, None, Geometry((2, 2), (1, 1), (1, 1), (0, 0)))
    assert not called
    convolve(x, weight, None, Geometry((1, 1), (1, 1), (1, 1), (0, 0)))
    assert called


def test_frozen_weights_and_frozen_inputs_get_no_gradient() -> None:
    layer, x = _layer("strided")
    layer.weight.requires_grad_(False)
    y = layer(x.clone().requires_grad_())
    y.sum().backward()
    assert layer.weight.grad is None
    assert layer.bias.grad is not None
