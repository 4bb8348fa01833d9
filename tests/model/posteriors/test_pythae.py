"""Losses of posteriors against the formulas of pythae 0.1.2 (commit 6419e215), transcribed, and their gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.special
import torch
from torch import Tensor

from convae.core.random import torch_generator
from convae.model.bottlenecks.gaussian import Gaussian
from convae.model.flows.base import build_flow
from convae.model.posteriors.flow import FlowPosterior
from convae.model.posteriors.von_mises_fisher import VonMisesFisherPosterior


class ScaledBessel(torch.autograd.Function):
    """`svae_utils.ModifiedBesselFn`: exp(−κ) I_ν(κ)."""

    @staticmethod
    def forward(ctx: object, order: float, x: Tensor) -> Tensor:
        ctx.order = order  # type: ignore[attr-defined]
        ctx.save_for_backward(x)  # type: ignore[attr-defined]
        return torch.from_numpy(np.asarray(scipy.special.ive(order, x.detach().numpy())))

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> tuple[None, Tensor]:
        x, order = ctx.saved_tensors[0].detach().numpy(), ctx.order  # type: ignore[attr-defined]
        slope = scipy.special.ive(order - 1, x) - scipy.special.ive(order, x) * (order + x) / x
        return None, gradients[0] * torch.from_numpy(np.asarray(slope))


@pytest.mark.parametrize("size", [3, 8, 32])
def test_the_divergence_is_that_of_svae(size: int) -> None:
    kappa = torch.tensor([1.1, 4.0, 25.0, 180.0], dtype=torch.float64, requires_grad=True)
    upper = ScaledBessel.apply(size / 2, kappa)  # type: ignore[no-untyped-call]
    lower = ScaledBessel.apply(size / 2 - 1, kappa)  # type: ignore[no-untyped-call]
    first = kappa * (upper / lower)
    second = (size / 2 - 1) * kappa.log() - math.log(2 * math.pi) * (size / 2) - lower.log() - kappa
    third = -math.lgamma(size / 2) + math.log(2) + math.log(math.pi) * (size / 2)
    expected = first + second + third
    mean = torch.eye(size, dtype=torch.float64)[:1].expand(4, -1)
    found = VonMisesFisherPosterior(mean, kappa).kl()
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(
        torch.autograd.grad(found.sum(), kappa)[0], torch.autograd.grad(expected.sum(), kappa)[0], rtol=1e-5, atol=1e-8
    )


@pytest.mark.parametrize("flow", ["iaf", "planar"])
def test_the_divergence_is_that_of_vae_iaf_and_vae_lin_nf(flow: str) -> None:
    bottleneck = Gaussian((6,), latent=4, flow=flow).double()
    bottleneck.reset(torch_generator(0, "weights"))
    features = torch.randn(5, 6, generator=torch_generator(0, "features"), dtype=torch.float64)
    posterior = bottleneck.posterior(features)
    assert isinstance(posterior, FlowPosterior)
    z = posterior.sample(torch_generator(0, "noise"))
    noise = torch.randn(5, 4, generator=torch_generator(0, "noise"), dtype=torch.float64)
    mean, log_var = posterior.base.mean, posterior.base.logvar
    first = mean + (0.5 * log_var).exp() * noise
    last, log_det = posterior.flow(first, features)
    log_first = (-0.5 * (log_var + (first - mean) ** 2 / log_var.exp())).sum(1)
    expected = log_first - (-0.5 * last**2).sum(1) - log_det
    found = posterior.log_prob(z) - posterior.log_prior(z)
    torch.testing.assert_close(found, expected)
    weight = bottleneck.weight
    torch.testing.assert_close(
        torch.autograd.grad(found.sum(), weight, retain_graph=True)[0], torch.autograd.grad(expected.sum(), weight)[0]
    )


def test_a_planar_map_is_that_of_pythae() -> None:
    flow = build_flow({"planar": {"steps": 1}}, (4,)).double()
    flow.reset(torch_generator(0, "flow"))
    x = torch.randn(5, 4, generator=torch_generator(0, "x"), dtype=torch.float64)
    w = next(value for key, value in flow.named_parameters() if key.endswith("normal"))[None]
    b = next(value for key, value in flow.named_parameters() if key.endswith("offset"))
    latent, log_det = flow(x)
    # pythae has no constraint on u, and ours is the u that the map has after it.
    line = x @ w.T + b
    u = ((latent - x) / torch.tanh(line))[:1]
    torch.testing.assert_close(latent, x + u * torch.tanh(line))
    slope = (1 - torch.tanh(line) ** 2) @ w
    torch.testing.assert_close(log_det, torch.log(torch.abs(1 + slope @ u.T) + 1e-4).squeeze(), rtol=0, atol=2e-4)
