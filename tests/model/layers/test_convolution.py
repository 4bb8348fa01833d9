"""Values and gradients of convolutions that train, against torch's in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from convae.core.random import torch_generator
from convae.model.layers import _matmul_convolution
from convae.model.layers.base.network import Network

MATMUL = "convae.model.layers._matmul_convolution"
CASES = {
    "plain": ("conv", {"channels": 5}, (4, 9, 7)),
    "strided": ("conv", {"channels": 5, "stride": 2}, (3, 9, 12)),
    "keras": ("conv", {"channels": 3, "stride": 2, "padding": "keras"}, (2, 8, 9)),
    "grouped": ("conv", {"channels": 6, "groups": 2}, (4, 6, 6)),
    "dilated": ("conv", {"channels": 3, "dilation": 2}, (2, 9, 9)),
    "signal": ("conv", {"channels": 3, "stride": 2}, (2, 9)),
    "volume": ("conv", {"channels": 3}, (2, 4, 5, 3)),
    "without-bias": ("conv", {"channels": 3, "bias": False}, (2, 6, 5)),
    "transposed": ("conv-transpose", {"channels": 3, "stride": 2}, (4, 5, 6)),
    "transposed-even": ("conv-transpose", {"channels": 3, "kernel": 4, "stride": 2, "padding": 1}, (2, 4, 4)),
    "transposed-signal": ("conv-transpose", {"channels": 3, "stride": 2}, (2, 5)),
    "transposed-volume": ("conv-transpose", {"channels": 3, "stride": 2}, (2, 3, 2, 4)),
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
    """The output, and the gradients of the input, the weight and the bias."""
    x = x.clone().requires_grad_()
    y = layer(x)
    wanted = [x, *layer.parameters()]
    return [y.detach(), *torch.autograd.grad((y * _values(*y.shape, key=10).to(y.dtype)).sum(), wanted)]


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_those_of_torch(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = _layer(case)
    found = _gradients(layer, x)
    for module in ("conv", "conv_transpose"):
        monkeypatch.setattr(
            f"convae.model.layers.{module}.convolve", lambda function, *args, **kw: function(*args, **kw)
        )
    for one, other in zip(found, _gradients(layer.double(), x.double()), strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-4)


@pytest.fixture
def as_matmul(monkeypatch: pytest.MonkeyPatch) -> None:
    """All dense convolutions are matrix products, also those that are too small for it to pay."""
    monkeypatch.setattr(f"{MATMUL}.SMALLEST", 0)
    monkeypatch.setattr(f"{MATMUL}.ROWS", math.inf)
    monkeypatch.setattr(f"{MATMUL}.ROWS_AMX", math.inf)


@pytest.mark.usefixtures("as_matmul")
@pytest.mark.parametrize("case", CASES)
def test_matrix_products_give_values_and_gradients_of_torch(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = _layer(case)
    layer.double()
    if x.ndim == 4:
        layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stub
    found = _gradients(layer, x.double())
    monkeypatch.setattr(f"{MATMUL}.SMALLEST", math.inf)
    for one, other in zip(found, _gradients(layer, x.double()), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.usefixtures("as_matmul")
@pytest.mark.parametrize("case", ["strided", "dilated", "transposed-even"])
def test_a_matrix_product_has_second_gradients(case: str) -> None:
    layer, x = _layer(case)
    layer.double()
    assert torch.autograd.gradcheck(layer, (x.double().requires_grad_(),))
    assert torch.autograd.gradgradcheck(layer, (x.double().requires_grad_(),), fast_mode=True)


def test_deep_layers_are_matrix_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """A convolution of few positions with a large weight gets no block layout; one of many positions does."""
    used: list[Tensor] = []
    product = _matmul_convolution.matmul_convolution
    monkeypatch.setattr(
        "convae.model.layers.conv.matmul_convolution",
        lambda x, *rest: (used.append(x), product(x, *rest))[1],  # type: ignore[func-returns-value]
    )
    for side, is_deep in ((4, True), (32, False)):
        used.clear()
        layer = Network((64, side, side), [{"conv": {"channels": 128, "stride": 2}}], "encoder")[0]
        layer.to_empty(device="cpu")(torch.zeros(8, 64, side, side))
        assert bool(used) == is_deep


@pytest.mark.usefixtures("as_matmul")
@pytest.mark.parametrize("case", ["strided", "transposed"])
def test_matrix_products_in_half_precision(case: str) -> None:
    layer, x = _layer(case)
    expected = _gradients(layer, x)
    with torch.autocast("cpu", torch.bfloat16):
        found = _gradients(layer, x)
    assert found[0].dtype == torch.bfloat16
    for one, other in zip(found, expected, strict=True):
        assert (one.float() - other).norm() < 0.01 * other.norm()


@pytest.mark.parametrize("case", ["plain", "transposed"])
def test_without_gradients_the_output_is_the_same(case: str) -> None:
    layer, x = _layer(case)
    trained = layer(x)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), trained.detach(), rtol=1e-5, atol=1e-5)


def test_half_precision_stays_half() -> None:
    layer, x = _layer("plain")
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), layer(x), rtol=0.05, atol=0.2)


def test_a_gradient_has_a_gradient() -> None:
    layer, x = _layer("strided")
    layer.double()
    assert torch.autograd.gradgradcheck(layer, (x.double().requires_grad_(),), fast_mode=True)


def test_frozen_weights_get_no_gradient() -> None:
    layer, x = _layer("strided")
    layer.weight.requires_grad_(False)
    layer(x.clone().requires_grad_()).sum().backward()
    assert layer.weight.grad is None
    assert layer.bias.grad is not None
