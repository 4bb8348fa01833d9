"""Priors that are learned with the model: densities against torch, and what the ELBO is with them."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

import convae
from convae.core.errors import ConfigError
from convae.core.random import torch_generator
from convae.model.priors.mixture import Mixture
from convae.model.priors.vamp import Vamp
from convae.model.vae import VAE
from convae.objective import build_objective

SPEC: dict[str, Any] = {
    "input": [1, 8, 8],
    "encoder": [{"conv": {"channels": 4, "stride": 2}}, "batch-norm", "silu", "flatten"],
    "bottleneck": {"gaussian": {"latent": 3}},
    "decoder": [{"linear": {"features": 64}}, {"unflatten": {"to": [1, 8, 8]}}],
}
PRIORS: list[dict[str, Any]] = [{"mixture": {"components": 4}}, {"vamp": {"inputs": 5}}]
FLOWS = [{"flow": {"transform": {name: {"steps": 3, "hidden": 16}}}} for name in ("coupling", "maf")]
IMAGES = torch.rand(6, 1, 8, 8, generator=torch_generator(0, "images"))


def built(prior: Any) -> VAE:
    model = convae.build({**SPEC, "prior": prior}).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.add_(0.5 * torch.randn(parameter.shape, generator=torch_generator(1, name)))
    return model


def reference(model: VAE) -> MixtureSameFamily:
    """The prior as torch has it, in float64."""
    prior = model.prior
    if isinstance(prior, Mixture):
        mean, logvar, logits = prior.mean.detach(), prior.logvar.detach(), prior.logits.detach()
    else:
        assert isinstance(prior, Vamp)
        posterior = model.encode(prior.images())
        mean, logvar, logits = posterior.mean, posterior.logvar, torch.zeros(5)
    normals = Independent(Normal(mean.double(), (0.5 * logvar.double()).exp()), 1)
    return MixtureSameFamily(Categorical(logits=logits.double()), normals)


@pytest.mark.parametrize("prior", PRIORS)
@torch.no_grad()
def test_density_and_bound_are_those_of_torch(prior: Any) -> None:
    model = built(prior)
    output = model(IMAGES, torch_generator(0, "noise"))
    expected = reference(model).log_prob(output.latent.double())
    torch.testing.assert_close(model.prior.log_prob(output.latent).double(), expected, rtol=1e-5, atol=1e-5)
    own = model.bottleneck.posterior(model.encode_features(IMAGES).values)
    estimate = own.log_prob(output.latent).double() - expected
    torch.testing.assert_close(output.posterior.kl().double(), estimate, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(output.terms["kl"], output.posterior.kl())
    bound = output.likelihood.log_prob(IMAGES) - output.posterior.kl()
    torch.testing.assert_close(output.log_weights(IMAGES), bound.double(), rtol=1e-5, atol=1e-4)


@torch.no_grad()
def test_a_narrow_component_keeps_its_digits() -> None:
    model = built(PRIORS[0])
    assert isinstance(model.prior, Mixture)
    model.prior.logvar.fill_(-14)
    z = model.prior.mean + 1e-3
    expected = reference(model).log_prob(z.double())
    torch.testing.assert_close(model.prior.log_prob(z).double(), expected, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("prior", PRIORS)
@torch.no_grad()
def test_samples_are_drawn_from_it(prior: Any) -> None:
    model = built(prior)
    drawn = model.sample_latents(20_000, torch_generator(0, "samples")).double()
    expected = reference(model)
    torch.testing.assert_close(drawn.mean(0), expected.mean, rtol=0, atol=0.08)
    torch.testing.assert_close(drawn.var(0), expected.variance, rtol=0.06, atol=0)
    entropy = float(-expected.log_prob(drawn).mean())
    assert float(-expected.log_prob(expected.sample((20_000,))).mean()) == pytest.approx(entropy, abs=0.06)
    # The temperature narrows each component, and not their distances.
    cold = model.sample_latents(500, torch_generator(0, "samples"), temperature=0)
    assert len(cold.unique(dim=0)) == (4 if isinstance(model.prior, Mixture) else 5)


@pytest.mark.parametrize("prior", [*PRIORS, *FLOWS])
def test_training_moves_the_prior_towards_the_posteriors(prior: Any) -> None:
    torch.manual_seed(0)
    model = convae.build({**SPEC, "prior": prior}).train()
    before = copy.deepcopy(model.prior.state_dict())
    objective = build_objective({"reconstruction": 1, "kl": 1})
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    totals = []
    for step in range(30):
        total = objective(IMAGES, model(IMAGES, torch_generator(0, "noise", step))).total
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(float(total.detach()))
    assert totals[-1] < totals[0] - 1
    assert all(not torch.equal(value, before[name]) for name, value in model.prior.state_dict().items())


@pytest.mark.parametrize("prior", PRIORS)
def test_it_is_saved_copied_and_refused_with_codes(prior: Any, tmp_path: Path) -> None:
    model = built(prior)
    samples = model.sample(3, torch_generator(0, "samples"))
    for other in (convae.load(convae.save(model, tmp_path / "model")), copy.deepcopy(model)):
        assert torch.equal(other.sample(3, torch_generator(0, "samples")), samples)
        # A copy has an encoder of its own.
        with torch.no_grad():
            next(other.encoder.parameters()).zero_()
    assert torch.equal(model.sample(3, torch_generator(0, "samples")), samples)
    with pytest.raises(ConfigError, match="transformer"):
        convae.build({**SPEC, "bottleneck": {"vq": {"codes": 4, "latent": 3}}, "prior": prior})


def test_a_conditional_model_refuses_the_prior_of_pseudo_inputs() -> None:
    with pytest.raises(ConfigError, match=r"conditional.*Vamp"):
        convae.build({**SPEC, "condition": {"classes": 2}, "prior": PRIORS[1]})


@torch.no_grad()
def test_a_hierarchy_takes_one_for_its_top() -> None:
    model = convae.build(
        {"preset": "ladder", "input": [1, 8, 8], "latent": 3, "size": "tiny", "prior": PRIORS[0]}
    ).eval()
    output = model(IMAGES, torch_generator(0, "noise"))
    top = model.latent_layout.split(output.latent)["latent"]
    own = model.bottleneck.posterior(model.encode_features(IMAGES).values)
    expected = own.log_prob(top) - model.prior.log_prob(top)
    torch.testing.assert_close(output.posterior.parts["latent"].kl(), expected)
    assert math.isfinite(float(output.log_weights(IMAGES).sum()))
