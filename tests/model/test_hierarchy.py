"""Models with several latents: what the passes, the posterior and the weights of a hierarchy are."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence

import convae
from convae.core.errors import ConfigError, ShapeError
from convae.core.joint_posterior import JointPosterior
from convae.core.noise import CountedNoise
from convae.core.posterior import GaussianPosterior
from convae.core.random import torch_generator
from convae.model.layers.latent import Latent
from convae.model.vae import VAE
from convae.objective import build_objective

HIERARCHY: dict[str, Any] = {
    "input": [1, 8, 8],
    "encoder": [
        {"conv": {"channels": 4, "stride": 2}},
        {"feature": {"name": "large"}},
        "silu",
        {"conv": {"channels": 6, "stride": 2}},
        {"feature": {"name": "small"}},
        "silu",
        "flatten",
    ],
    "bottleneck": {"gaussian": {"latent": 3}},
    "decoder": [
        {"linear": {"features": 24}},
        {"unflatten": {"to": [6, 2, 2]}},
        {"latent": {"channels": 2, "feature": "small", "prior": ["silu", {"conv": {"channels": 5}}]}},
        {"upsample": {"scale": 2}},
        {"residual": {"layers": ["silu", {"latent": {"channels": 1, "feature": "large"}}]}},
        "silu",
        {"conv-transpose": {"channels": 1, "stride": 2}},
    ],
}
IMAGES = torch.rand(5, 1, 8, 8, generator=torch_generator(0, "images"))


def generator() -> torch.Generator:
    return torch_generator(1, "noise")


@pytest.fixture
def model() -> VAE:
    made = convae.build(HIERARCHY).eval()
    with torch.no_grad():
        # Beyond the start, where prior and posterior are nearly equal.
        for name, parameter in made.named_parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=torch_generator(2, name)))
    return made


def test_the_latents_form_one_tensor_from_the_top(model: VAE) -> None:
    entries = (("latent", (3,)), ("latent 1", (2, 2, 2)), ("latent 2", (1, 4, 4)))
    assert model.latent_layout.entries == entries
    assert model.latent_shape == (3 + 8 + 16,)
    assert model.is_hierarchical
    assert [model.latent_layout.level_of(value) for value in (0, 2, 3, 10, 11, 26)] == [1, 1, 2, 2, 3, 3]
    output = model(IMAGES, generator())
    assert output.latent.shape == (5, 27)
    assert isinstance(output.posterior, JointPosterior)
    torch.testing.assert_close(output.terms["kl"], output.posterior.kl())
    values = output.posterior.kl_values()
    assert values is not None
    torch.testing.assert_close(values.sum(1), output.posterior.kl())


@torch.no_grad()
def test_passes_agree_with_each_other(model: VAE) -> None:
    output = model(IMAGES, generator())
    assert torch.equal(model.decode(output.latent).mean, output.likelihood.mean)
    features = model.encode_features(IMAGES)
    assert torch.equal(model.decode_features(features, noise=generator()).latent, output.latent)
    assert torch.equal(output.posterior.sample(generator()), output.latent)
    means = model.encode(IMAGES)
    assert torch.equal(means.sample(generator()), output.latent)
    deterministic = model(IMAGES)
    assert torch.equal(deterministic.latent, means.mean)
    assert torch.equal(deterministic.likelihood.mean, model.decode(means.mean).mean)
    # An image does not depend on the rest of its batch.
    alone = model(IMAGES[:1])
    torch.testing.assert_close(alone.latent, deterministic.latent[:1])


@torch.no_grad()
def test_prior_and_posterior_are_those_of_torch(model: VAE) -> None:
    output = model(IMAGES, generator())
    latents = model.latent_layout.split(output.latent)
    ratio = torch.zeros(5)
    for name, part in output.posterior.parts.items():
        assert isinstance(part, GaussianPosterior)
        mean = torch.zeros_like(part.mean) if part.prior_mean is None else part.prior_mean
        logvar = torch.zeros_like(part.mean) if part.prior_logvar is None else part.prior_logvar
        dims = part.mean.ndim - 1
        prior = Independent(Normal(mean, (0.5 * logvar).exp()), dims)
        posterior = Independent(Normal(part.mean, (0.5 * part.logvar).exp()), dims)
        torch.testing.assert_close(part.kl(), kl_divergence(posterior, prior), rtol=1e-5, atol=1e-5)
        ratio += prior.log_prob(latents[name]) - posterior.log_prob(latents[name])
    expected = output.likelihood.log_prob(IMAGES) + ratio
    torch.testing.assert_close(output.log_weights(IMAGES), expected.double(), rtol=1e-5, atol=1e-4)


@torch.no_grad()
def test_importance_weights_average_to_the_likelihood_of_a_small_model() -> None:
    # One latent of one value below another: log p(x) by a fine grid over both.
    spec = {
        "input": [1, 2],
        "encoder": ["flatten", {"feature": {"name": "x"}}],
        "bottleneck": {"gaussian": {"latent": 1}},
        "decoder": [
            {"latent": {"channels": 1, "feature": "x"}},
            {"linear": {"features": 2}},
            {"unflatten": {"to": [1, 2]}},
        ],
    }
    model = convae.build(spec).eval().double()
    for name, parameter in model.named_parameters():
        parameter.add_(0.4 * torch.randn(parameter.shape, generator=torch_generator(3, name), dtype=torch.float64))
    x = torch.tensor([[[1.0, 0.0]]], dtype=torch.float64)
    grid = torch.linspace(-8, 8, 801, dtype=torch.float64)
    top, below = torch.meshgrid(grid, grid, indexing="ij")
    z = torch.stack([top.flatten(), below.flatten()], 1)
    layer = model.networks["decoder"][0]
    assert isinstance(layer, Latent)
    mean, logvar = layer.prior(z[:, :1]).chunk(2, 1)
    logvar = 10 * torch.tanh(logvar / 10)
    log_prior = Normal(0.0, 1.0).log_prob(z[:, 0]) + Normal(mean, (0.5 * logvar).exp()).log_prob(z[:, 1:])[:, 0]
    joint = log_prior + model.decode(z).log_prob(x.expand(len(z), 1, 2))
    exact = joint.logsumexp(0) + 2 * math.log(16 / 800)
    draws = x.expand(20_000, 1, 2)
    output = model(draws, generator())
    weights = output.log_weights(draws)
    assert float(weights.logsumexp(0) - math.log(len(draws))) == pytest.approx(float(exact), abs=0.01)
    assert float(weights.mean()) < float(exact)
    elbo = (output.likelihood.log_prob(draws) - output.posterior.kl()).mean()
    assert float(elbo) == pytest.approx(float(weights.mean()), abs=0.05)


@torch.no_grad()
def test_samples_follow_the_prior_and_the_temperature(model: VAE) -> None:
    images, latents = model.sample(4, generator()), model.sample_latents(4, generator())
    torch.testing.assert_close(images, model.decode(latents).mean)
    each = [torch_generator(0, "sample", number) for number in range(4)]
    first = [torch_generator(0, "sample", number) for number in range(2)]
    torch.testing.assert_close(model.sample_latents(4, each)[:2], model.sample_latents(2, first))
    mode = model.sample_latents(2, generator(), temperature=0)
    torch.testing.assert_close(mode[0], mode[1])
    top_only = model.sample_latents(2, generator(), temperature={"latent 1": 0, "latent 2": 0})
    torch.testing.assert_close(model.decode(top_only).mean, model.decode(top_only, levels=1).mean)
    assert not torch.equal(top_only[0], top_only[1])


@pytest.mark.parametrize(
    ("temperature", "named"), [(-1.0, "-1"), (float("nan"), "nan"), ({"latent 3": 1.0}, "latent 3")]
)
def test_wrong_temperatures_are_refused(model: VAE, temperature: Any, named: str) -> None:
    for call in (model.sample, model.sample_latents):
        with pytest.raises(ConfigError, match=f"temperature.*{named}"):
            call(2, temperature=temperature)


@torch.no_grad()
def test_levels_take_the_top_latents_alone(model: VAE) -> None:
    z = model(IMAGES, generator()).latent
    changed = z.clone()
    changed[:, 3:] += 1
    assert torch.equal(model.decode(z, levels=1).mean, model.decode(changed, levels=1).mean)
    assert not torch.equal(model.decode(z, levels=2).mean, model.decode(changed, levels=2).mean)
    assert torch.equal(model.decode(z, levels=3).mean, model.decode(z).mean)
    for levels in (0, 4):
        with pytest.raises(ConfigError, match=r"levels.*1 to 3"):
            model.decode(z, levels=levels)


def gradients(checkpointing: bool) -> list[Tensor]:
    model = convae.build(HIERARCHY).train()
    model.use_checkpointing(checkpointing)
    objective = build_objective({"reconstruction": 1, "kl": 1})
    output = model(IMAGES, CountedNoise(0, ("step",), 0, len(IMAGES)))
    objective(IMAGES, output).total.backward()
    assert set(output.terms) == {"kl"}
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


def test_checkpointing_gives_equal_gradients_to_every_parameter() -> None:
    plain = gradients(False)
    assert len(plain) == len(list(convae.build(HIERARCHY).parameters()))
    for one, other in zip(plain, gradients(True), strict=True):
        assert torch.equal(one, other)


def test_features_that_do_not_fit_are_named() -> None:
    def described(**latent: Any) -> dict[str, Any]:
        decoder = [*HIERARCHY["decoder"]]
        decoder[2] = {"latent": {"channels": 2, **latent}}
        return {**HIERARCHY, "decoder": decoder}

    with pytest.raises(ConfigError, match=r"'smal'.*'small'"):
        convae.build(described(feature="smal"))
    with pytest.raises(ShapeError, match=r"'large'.* 4×4×4.*6×2×2"):
        convae.build(described(feature="large"))
    with pytest.raises(ShapeError, match=r"prior.*4×1×1"):
        convae.build(described(feature="small", prior=[{"conv": {"channels": 6, "stride": 2}}]))
    twice = [*HIERARCHY["encoder"], {"feature": {"name": "small"}}]
    with pytest.raises(ConfigError, match=r"'small'"):
        convae.build({**HIERARCHY, "encoder": twice})


def test_a_conditional_hierarchy_draws_the_latents_of_its_class() -> None:
    model = convae.build({**HIERARCHY, "condition": {"classes": 3}}).eval()
    drawn = [model.sample_latents(1, generator(), torch.tensor([label])) for label in (0, 1)]
    assert torch.equal(drawn[0][:, :3], drawn[1][:, :3])
    assert not torch.equal(drawn[0], drawn[1])
    assert model.sample(3, generator()).shape == (3, 1, 8, 8)


def test_slices_are_exact_and_the_stored_model_is_the_same(model: VAE, tmp_path: Any) -> None:
    model.eval()
    with torch.no_grad():
        whole = model(IMAGES)
        model.use_slices(3)
        sliced = model(IMAGES)
        again = convae.load(convae.save(model, tmp_path / "model"))(IMAGES)
    torch.testing.assert_close(sliced.latent, whole.latent)
    torch.testing.assert_close(sliced.likelihood.mean, whole.likelihood.mean)
    torch.testing.assert_close(sliced.terms, whole.terms)
    assert torch.equal(again.likelihood.mean, whole.likelihood.mean)
    model.use_slices(None)
