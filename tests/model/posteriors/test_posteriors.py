"""Full covariance, flow and deterministic posteriors: against torch, against integrals, and in models."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

import convae
from convae.core.errors import ConfigError, ShapeError
from convae.core.posterior import EstimatedPosterior, GaussianPosterior, Posterior
from convae.core.random import torch_generator
from convae.model.bottlenecks.gaussian import Gaussian
from convae.model.posteriors.flow import FlowPosterior
from convae.model.posteriors.full_gaussian import FullGaussianPosterior
from convae.model.vae import VAE
from convae.objective import build_objective

FLOWS: list[dict[str, Any]] = [
    {"flow": {"planar": {"steps": 3}}},
    {"flow": {"iaf": {"hidden": 16}}},
    {"flow": {"maf": {"steps": 2, "hidden": 16}}},
    {"flow": {"coupling": {"steps": 2, "hidden": 16}}},
    {"flow": {"iaf": {"hidden": 4}}, "covariance": "full"},
]
IMAGES = torch.rand(5, 1, 8, 8, generator=torch_generator(0, "images"))


def built(options: dict[str, Any], kind: str = "gaussian", **more: Any) -> VAE:
    model = convae.build(
        {
            "input": [1, 8, 8],
            "encoder": [{"conv": {"channels": 4, "stride": 2}}, "silu", "flatten"],
            "bottleneck": {kind: {"latent": 2, **options}},
            "decoder": [{"linear": {"features": 64}}, {"unflatten": {"to": [1, 8, 8]}}],
            **more,
        }
    ).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch_generator(1, name)))
    return model


def full_posterior() -> FullGaussianPosterior:
    mean = torch.randn(4, 3, generator=torch_generator(0, "mean"), dtype=torch.float64)
    root = torch.randn(4, 3, 3, generator=torch_generator(0, "root"), dtype=torch.float64).tril(-1)
    diagonal = torch.rand(4, 3, generator=torch_generator(0, "diagonal"), dtype=torch.float64) + 0.2
    return FullGaussianPosterior(mean, root + diagonal.diag_embed())


def test_a_full_covariance_is_that_of_torch() -> None:
    posterior = full_posterior()
    reference = MultivariateNormal(posterior.mean, scale_tril=posterior.root)
    standard = MultivariateNormal(torch.zeros(3).double(), torch.eye(3).double())
    torch.testing.assert_close(posterior.kl(), kl_divergence(reference, standard))
    z = posterior.sample(torch_generator(0, "z"))
    torch.testing.assert_close(posterior.log_prob(z), reference.log_prob(z))
    torch.testing.assert_close(posterior.log_prior(z), standard.log_prob(z))
    torch.testing.assert_close(posterior.logvar.exp(), reference.variance)
    draws = torch.stack([posterior.sample(torch_generator(n, "z")) for n in range(4000)])
    torch.testing.assert_close(draws[:, 1].T.cov(), reference.covariance_matrix[1], rtol=0.1, atol=0.1)


def test_the_head_of_a_full_covariance_starts_diagonal_and_has_the_right_gradient() -> None:
    bottleneck = Gaussian((6,), latent=3, covariance="full").double()
    features = torch.randn(2, 6, generator=torch_generator(0, "features"), dtype=torch.float64)
    with torch.no_grad():
        bottleneck.weight[3:].zero_()
    start = bottleneck.posterior(features)
    assert isinstance(start, FullGaussianPosterior)
    torch.testing.assert_close(start.root, torch.eye(3).double().expand(2, 3, 3))
    torch.testing.assert_close(start.kl(), GaussianPosterior(start.mean, torch.zeros_like(start.mean)).kl())
    bottleneck.reset(torch_generator(0, "weights"))

    def value(weight: Tensor) -> Tensor:
        found = torch.func.functional_call(_Posterior(bottleneck), {"bottleneck.weight": weight}, (features,))
        total: Tensor = found
        return total

    assert torch.autograd.gradcheck(value, (bottleneck.weight.detach().requires_grad_(),))


class _Posterior(torch.nn.Module):
    def __init__(self, bottleneck: Gaussian) -> None:
        super().__init__()
        self.bottleneck = bottleneck

    def forward(self, features: Tensor) -> Tensor:
        posterior = self.bottleneck.posterior(features)
        z = posterior.sample(torch_generator(0, "z"))
        return torch.stack([posterior.kl(), posterior.log_prob(z), z.sum(1)])


@pytest.mark.parametrize("options", FLOWS)
@torch.no_grad()
def test_the_density_of_a_flow_has_the_mass_1_and_the_estimated_divergence_its_mean(options: dict[str, Any]) -> None:
    model = built(options).double()
    features = model.encode_features(IMAGES[:1].double()).values
    own = model.bottleneck.posterior(features)
    side = torch.linspace(-8, 8, 161, dtype=torch.float64)
    grid, area = torch.cartesian_prod(side, side), float(side[1] - side[0]) ** 2
    spread = model.bottleneck.posterior(features.expand(len(grid), -1))
    density = spread.log_prob(grid)
    assert float(density.exp().sum() * area) == pytest.approx(1, abs=1e-4)
    divergence = float((density.exp() * (density - spread.log_prior(grid))).sum() * area)
    many = model.bottleneck.posterior(features.expand(20_000, -1))
    z = many.sample(torch_generator(0, "z"))
    estimate = EstimatedPosterior(many, z, many.log_prior).kl()
    torch.testing.assert_close(many.kl(), estimate)
    assert float(estimate.mean()) == pytest.approx(divergence, abs=4 * float(estimate.std()) / math.sqrt(len(z)))
    # The variance is an estimate with a few draws.
    variance = torch.stack([z[:, 0].var(), z[:, 1].var()])
    assert ((own.logvar[0] - variance.log()).abs() < 1).all()


@pytest.mark.parametrize("options", FLOWS)
@torch.no_grad()
def test_the_density_of_drawn_latents_is_that_of_the_inverse(options: dict[str, Any]) -> None:
    model = built(options).double()
    posterior = model.bottleneck.posterior(model.encode_features(IMAGES.double()).values)
    for z in (posterior.sample(torch_generator(0, "z")), posterior.mean, posterior.sample(torch_generator(1, "z"))):
        torch.testing.assert_close(posterior.log_prob(z), posterior.log_prob(z.clone()))


@pytest.mark.parametrize("options", [{"covariance": "full"}, *FLOWS])
def test_bound_and_weights_agree_and_posteriors_do_not_depend_on_the_batch(options: dict[str, Any]) -> None:
    model = built(options)
    output = model(IMAGES, torch_generator(0, "noise"))
    own = model.bottleneck.posterior(model.encode_features(IMAGES).values)
    z = output.latent
    expected = output.likelihood.log_prob(IMAGES) + own.log_prior(z) - own.log_prob(z)
    torch.testing.assert_close(output.log_weights(IMAGES), expected.double(), rtol=1e-4, atol=1e-3)
    kl = output.terms["kl"]
    torch.testing.assert_close(kl, output.posterior.kl())
    if "flow" in options:
        torch.testing.assert_close(kl, own.log_prob(z) - own.log_prior(z), rtol=1e-4, atol=1e-3)
    alone, together = model.encode(IMAGES[1:2]), model.encode(IMAGES)
    torch.testing.assert_close(alone.mean, together.mean[1:2])
    torch.testing.assert_close(alone.logvar, together.logvar[1:2], rtol=1e-4, atol=1e-4)
    assert alone.has_closed_kl == ("flow" not in options)


@pytest.mark.parametrize("options", [{"covariance": "full"}, *FLOWS])
@pytest.mark.parametrize("prior", ["standard-normal", {"mixture": {"components": 3}}, "flow"])
def test_training_improves_the_bound_and_the_model_is_saved(
    options: dict[str, Any], prior: Any, tmp_path: Path
) -> None:
    model = built(options, prior=prior).train()
    objective = build_objective({"reconstruction": 1, "kl": 1})
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    totals = []
    for step in range(20):
        with torch.autocast("cpu", torch.bfloat16):
            output = model(IMAGES, torch_generator(0, "noise", step))
        assert output.posterior.kl().dtype == torch.float32
        total = objective(IMAGES, output).total
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(float(total.detach()))
    assert sum(totals[-5:]) < sum(totals[:5])
    assert all(parameter.grad is not None for parameter in model.parameters())
    again = convae.load(convae.save(model.eval(), tmp_path / "model"))
    assert torch.equal(again.encode(IMAGES).mean, model.encode(IMAGES).mean)


def test_importance_weighted_bounds_take_flows_but_no_doubly_reparameterized_gradient() -> None:
    model = built(FLOWS[1], prior={"mixture": {"components": 3}}).train()
    batch = IMAGES.repeat_interleave(3, 0)
    output = model(IMAGES, torch_generator(0, "noise"), samples=3)
    for options, is_refused in ({}, False), ({"partial": True}, False), ({"doubly_reparameterized": True}, True):
        objective = build_objective({"importance-weighted": {"samples": 3, **options}})
        if is_refused:
            with pytest.raises(ConfigError, match="flow"):
                objective(IMAGES, output)
        else:
            bound = torch.logsumexp(output.log_weights(batch).view(5, 3), 1) - math.log(3)
            torch.testing.assert_close(objective(IMAGES, output).total.double(), -bound.mean(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("flow", ["planar", "iaf", "maf", "coupling"])
def test_a_flow_starts_close_to_the_gaussian(flow: str) -> None:
    features = torch.randn(5, 6, generator=torch_generator(0, "features"))
    bottleneck = Gaussian((6,), latent=4, flow=flow)
    bottleneck.reset(torch_generator(0, "weights"))
    posterior = bottleneck.posterior(features)
    assert isinstance(posterior, FlowPosterior)
    z = posterior.sample(torch_generator(0, "z"))
    torch.testing.assert_close(z, posterior.base.sample(torch_generator(0, "z")), rtol=0, atol=0.15)
    torch.testing.assert_close(posterior.log_prob(z), posterior.base.log_prob(z), rtol=0, atol=0.6)


def test_maps_take_a_flow_and_no_full_covariance() -> None:
    features = torch.randn(2, 6, 4, 4, generator=torch_generator(0, "features"))
    posterior: Posterior = Gaussian((6, 4, 4), latent=2, flow="coupling").posterior(features)
    assert posterior.sample(torch_generator(0, "z")).shape == (2, 2, 4, 4)
    with pytest.raises(ShapeError, match="flatten"):
        Gaussian((6, 4, 4), latent=2, covariance="full")
    with pytest.raises(ShapeError, match="5 feature channels"):
        Gaussian((6,), latent=2, covariance="full", head=False)


def test_a_deterministic_latent_has_no_divergence() -> None:
    model = built({}, "deterministic")
    output = model(IMAGES, torch_generator(0, "noise"))
    assert torch.equal(output.latent, model.encode(IMAGES).mean)
    assert "kl" not in output.terms
    assert output.posterior.kl().isinf().all()
    with pytest.raises(ConfigError, match="deterministic"):
        build_objective({"reconstruction": 1, "kl": 1})(IMAGES, output)
    assert model.sample(2, torch_generator(0, "z")).shape == (2, 1, 8, 8)
    with pytest.raises(ConfigError, match="diagonal"):
        built({}, "deterministic", prior="vamp")
    assert built({}, "deterministic", prior="flow")(IMAGES).posterior.has_density is False


def test_without_a_head_the_features_are_the_latent() -> None:
    model = built({"head": False, "latent": 64}, "deterministic")
    assert torch.equal(model.encode(IMAGES).mean, model.encode_features(IMAGES).values)
    with pytest.raises(ShapeError, match="3 feature channels"):
        built({"head": False, "latent": 3}, "deterministic")
