"""Flows against the formulas of their papers; inverse and log-determinant of each are checked by `check_flow`."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from convae.core.errors import ConfigError
from convae.core.random import torch_generator
from convae.core.types import Shape
from convae.model.flows.base import Flow, build_flow


def made(name: str, shape: Shape, **options: int) -> Flow:
    flow = build_flow({name: options}, shape).double()
    with torch.no_grad():
        for key, parameter in flow.named_parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch_generator(1, key)))
    return flow


def noise(shape: Shape) -> Tensor:
    return torch.randn(1, *shape, generator=torch_generator(0, "noise"), dtype=torch.float64)[0]


@pytest.mark.parametrize("name", ["maf", "iaf"])
def test_an_autoregressive_step_is_triangular_in_its_order(name: str) -> None:
    at = noise((5,))
    forwards, backwards = made(name, (5,), steps=2, hidden=16).steps
    for step, is_lower in ((forwards, True), (backwards, False)):
        found = torch.autograd.functional.jacobian(lambda u, step=step: step(u[None])[0][0], at)
        other = found.triu(1) if is_lower else found.tril(-1)
        assert not other.any()
        # Every value depends on all before it.
        assert (found.tril(-1) if is_lower else found.triu(1)).count_nonzero() == 10


def test_a_coupling_layer_is_that_of_realnvp() -> None:
    flow = made("coupling", (4,), steps=1, hidden=8)
    u = noise((4,))
    parameters = dict(flow.named_parameters())
    mask = torch.tensor([0, 1, 0, 1.0], dtype=torch.float64)
    hidden = u * mask
    for layer in ("first", "second"):
        weight, bias = parameters[f"steps.0.{layer}.weight"], parameters[f"steps.0.{layer}.bias"]
        hidden = torch.nn.functional.silu(weight @ hidden + bias)
    raw = parameters["steps.0.last.weight"] @ hidden + parameters["steps.0.last.bias"]
    shift, scale = raw[:4], 2 * torch.tanh(raw[4:] / 2)
    # Equation 9 of the paper.
    expected = mask * u + (1 - mask) * (u * torch.exp(scale) + shift)
    torch.testing.assert_close(flow(u[None])[0][0], expected)


def test_each_two_values_are_in_different_halves_at_some_step() -> None:
    flow = made("coupling", (6,), steps=6, hidden=8)
    together = torch.eye(6, dtype=torch.bool)
    for step in flow.steps:
        changed = torch.autograd.functional.jacobian(lambda u, step=step: step(u[None])[0][0], noise((6,)))
        together |= (changed - torch.diag(changed.diagonal())) != 0
    assert (together | together.T).all()


def test_convolutions_couple_maps_of_any_size() -> None:
    flow = made("coupling", (2, 4, 4), steps=4, hidden=8)
    large = torch.randn(2, 2, 7, 5, dtype=torch.float64, generator=torch_generator(0, "large"))
    torch.testing.assert_close(flow.inverse(flow(large)[0])[0], large)


def test_a_planar_step_is_that_of_the_paper() -> None:
    flow = made("planar", (3,), steps=1)
    u = noise((3,))
    raw, w, b = (dict(flow.named_parameters())[f"steps.0.{name}"] for name in ("direction", "normal", "offset"))
    # Appendix A.1: the part of v along w is replaced by m(wᵀv) ≥ −1; here m(0) = 0.
    product = w @ raw
    m = -1 + torch.log(1 + (torch.e - 1) * torch.exp(product))
    v = raw + (m - product) * w / (w @ w)
    slope = 1 - torch.tanh(w @ u + b).square()
    latent, log_det = flow(u[None])
    torch.testing.assert_close(latent[0], u + v * torch.tanh(w @ u + b))
    torch.testing.assert_close(log_det, torch.log((1 + slope * (w @ v)).abs()))


def test_a_planar_step_is_invertible_however_steep() -> None:
    flow = made("planar", (3,), steps=1)
    with torch.no_grad():
        for key, parameter in flow.named_parameters():
            parameter.mul_(-30 if key.endswith("direction") else 30)
    points = 3 * torch.randn(200, 3, dtype=torch.float64, generator=torch_generator(0, "points"))
    latent, log_det = flow(points)
    assert log_det.isfinite().all()
    torch.testing.assert_close(flow(flow.inverse(latent)[0])[0], latent)


@pytest.mark.parametrize("name", ["coupling", "maf", "iaf", "planar"])
def test_densities_have_the_gradient_of_finite_differences(name: str) -> None:
    options = {"steps": 2} if name == "planar" else {"steps": 2, "hidden": 4}
    flow = made(name, (3,), **options)
    z = noise((3,))[None].requires_grad_()
    parameters = tuple(flow.parameters())

    def density(z: Tensor, *values: Tensor) -> Tensor:
        named = dict(zip((key for key, _ in flow.named_parameters()), values, strict=True))
        with_values = {f"flow.{key}": value for key, value in named.items()}
        u, log_det = torch.func.functional_call(_Inverse(flow), with_values, (z,))
        total: Tensor = log_det - 0.5 * u.square().sum(1)
        return total

    assert torch.autograd.gradcheck(density, (z, *parameters), atol=1e-6)


class _Inverse(torch.nn.Module):
    def __init__(self, flow: Flow) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return self.flow.inverse(z)


def test_wrong_options_name_the_flow() -> None:
    with pytest.raises(ConfigError, match="maf"):
        build_flow({"maf": {"step": 2}}, (3,))
    with pytest.raises(ConfigError, match="coupling"):
        build_flow("couplin", (3,))
