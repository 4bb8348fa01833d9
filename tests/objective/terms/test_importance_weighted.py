"""Importance-weighted bounds: against sums over samples that are written out, and an exact likelihood."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

import convae
from convae.core.errors import ConfigError
from convae.core.noise import CountedNoise
from convae.core.output import Output
from convae.core.random import torch_generator
from convae.core.types import Batch
from convae.model.vae import VAE
from convae.objective.objective import build_objective
from convae.training import train

SPEC: dict[str, Any] = {
    "input": [1, 4, 4],
    "encoder": ["flatten", {"linear": {"features": 6}}, "tanh"],
    "bottleneck": {"gaussian": {"latent": 3}},
    "decoder": [{"linear": {"features": 8}}, "tanh", {"linear": {"features": 16}}, {"unflatten": {"to": [1, 4, 4]}}],
}
LADDER = {"preset": "ladder", "input": [1, 8, 8], "latent": 3, "size": "tiny"}
MODELS: dict[str, dict[str, Any]] = {
    "standard normal": SPEC,
    "mixture": {**SPEC, "prior": {"mixture": {"components": 4}}},
    "vamp": {**SPEC, "prior": {"vamp": {"inputs": 3}}},
    "conditional": {**SPEC, "condition": {"classes": 3}},
    "hierarchy": LADDER,
}


def built(spec: dict[str, Any]) -> VAE:
    """A model in float64 whose posteriors and priors differ from image to image."""
    model = convae.build(spec).eval().double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=torch_generator(1, name), dtype=torch.float64)
            parameter.add_((0.3 if spec is not LADDER else 0.03) * noise)  # the deep one has large values otherwise
    return model


def batch_for(model: VAE, count: int = 4) -> Batch:
    images = torch.rand(count, *model.input_shape, generator=torch_generator(0, "images"), dtype=torch.float64)
    return Batch.of(images, torch.arange(count) % 3)


def drawn(model: VAE, batch: Batch, samples: int) -> Output:
    output: Output = model(batch.images, torch_generator(0, "noise"), batch.labels, samples=samples)
    return output


def gradients(model: VAE, value: Tensor) -> dict[str, Tensor]:
    """The gradient of each parameter, 0 where the value does not depend on it."""
    named = dict(model.named_parameters())
    found = torch.autograd.grad(value, list(named.values()), allow_unused=True, retain_graph=True)
    return {
        name: torch.zeros_like(parameter) if gradient is None else gradient
        for (name, parameter), gradient in zip(named.items(), found, strict=True)
    }


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor], part: str = "") -> None:
    chosen = [name for name in wanted if name.startswith(part)]
    assert chosen
    assert any(wanted[name].any() for name in chosen)
    for name in chosen:
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-8, atol=1e-9, msg=name)


@pytest.mark.parametrize("which", MODELS)
def test_value_and_gradient_are_those_of_one_sample_at_a_time(which: str) -> None:
    model, samples = built(MODELS[which]), 3
    batch = batch_for(model)
    output = drawn(model, batch, samples)
    assert output.latent.shape == (4 * samples, *model.latent_shape)
    assert output.samples == samples
    losses = build_objective({"importance-weighted": {"samples": samples}})(batch, output)
    # The same latents, one image at a time: the posterior and the likelihood of each are computed anew.
    rows = output.latent.detach().unflatten(0, (4, samples))
    bounds = []
    for number in range(4):
        image, label = batch.images[number : number + 1], torch.tensor([number % 3])
        weights = []
        for z in rows[number]:
            given = Given(z, model)
            alone = model(image, given.noise(image, label), label)
            torch.testing.assert_close(alone.latent[0].detach(), z)
            prior, own = alone.posterior.log_prior(alone.latent), alone.posterior.log_prob(alone.latent)
            weights.append(alone.likelihood.log_prob(image) + prior - own)
        bounds.append(torch.logsumexp(torch.cat(weights), 0) - math.log(samples))
    wanted = torch.stack(bounds)
    torch.testing.assert_close(losses.terms["importance-weighted"], -wanted)
    assert_same(gradients(model, losses.total), gradients(model, -wanted.mean()))


class Given:
    """Noise for which the reparameterized latents of an image are given ones."""

    def __init__(self, z: Tensor, model: VAE) -> None:
        self.z, self.model = z, model

    def noise(self, image: Tensor, label: Tensor) -> Any:
        """Noise by the name of the latent: found by drawing from the top down, each latent given those above."""
        parts = self.model.latent_layout.split(self.z[None])
        known: dict[str, Tensor] = {}
        for name in parts:
            own = {other: known.get(other, torch.zeros_like(parts[other])) for other in parts}
            posterior = self.model(image, _Fixed(own), label).posterior
            part = getattr(posterior, "parts", {name: posterior})[name]
            known[name] = ((parts[name] - part.mean) * torch.exp(-0.5 * part.logvar)).detach()
        return _Fixed(known)


class _Fixed(CountedNoise):
    """Counted noise with given values."""

    def __init__(self, values: dict[str, Tensor], name: str = "") -> None:
        super().__init__(0, (), 0, 1)
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "name", name)

    def named(self, name: str) -> _Fixed:
        return _Fixed(self.values, name)  # type: ignore[attr-defined]

    def normal(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        value: Tensor = self.values[self.name]  # type: ignore[attr-defined]
        assert value.shape == shape
        return value.to(dtype)


@pytest.mark.parametrize("which", ["standard normal", "mixture", "conditional"])
def test_partial_weights_train_each_side_with_its_own_bound(which: str) -> None:
    """PIWAE: the encoder has the gradient of the mean of M bounds, the decoder that of one bound of M·K samples."""
    model = built(MODELS[which])
    batch = batch_for(model)
    output = drawn(model, batch, 6)
    totals = {
        name: build_objective({"importance-weighted": options})(batch, output)
        for name, options in {
            "partial": {"samples": 3, "bounds": 2, "partial": True},
            "mean": {"samples": 3, "bounds": 2},
            "pooled": {"samples": 6},
        }.items()
    }
    found, mean, pooled = (gradients(model, each.total) for each in totals.values())
    for part in ("encoder", "bottleneck"):
        assert_same(found, mean, part)
    assert_same(found, pooled, "decoder")
    if which == "mixture":
        assert_same(found, pooled, "prior")
    assert not torch.allclose(mean["decoder.0.weight"], pooled["decoder.0.weight"], rtol=1e-3)
    torch.testing.assert_close(totals["partial"].total, totals["pooled"].total)
    assert (totals["mean"].terms["importance-weighted"] >= totals["pooled"].terms["importance-weighted"]).all()


def test_several_bounds_are_averaged() -> None:
    model = built(SPEC)
    batch = batch_for(model)
    output = drawn(model, batch, 6)
    found = build_objective({"importance-weighted": {"samples": 3, "bounds": 2}})(batch, output)
    weights = output.log_weights(batch.images.repeat_interleave(6, 0)).view(4, 2, 3)
    wanted = -weights.exp().mean(2).log().mean(1)
    torch.testing.assert_close(found.terms["importance-weighted"], wanted)


def test_the_doubly_reparameterized_gradient_has_the_same_mean_and_less_variance() -> None:
    model, repeats, copies, samples = built(SPEC), 60, 16, 8
    image = batch_for(model, 1).images
    images = image.repeat(copies, 1, 1, 1)  # a gradient is the mean of so many
    found: dict[bool, Tensor] = {}
    for doubly in (False, True):
        objective = build_objective({"importance-weighted": {"samples": samples, "doubly_reparameterized": doubly}})
        generator, rows = torch_generator(0, "noise"), []
        for _ in range(repeats):
            total = objective(images, model(images, generator, samples=samples)).total
            rows.append(torch.autograd.grad(total, list(model.bottleneck.parameters())[1])[0])
        found[doubly] = torch.stack(rows)
    error = (found[False].var(0) + found[True].var(0)).div(repeats).sqrt()
    assert ((found[False].mean(0) - found[True].mean(0)).abs() < 4 * error).all()
    assert float(found[True].var(0).sum()) < 0.7 * float(found[False].var(0).sum())
    plain, doubled = (
        gradients(
            model, build_objective({"importance-weighted": options})(image, drawn(model, Batch.of(image), 8)).total
        )
        for options in ({"samples": 8}, {"samples": 8, "doubly_reparameterized": True})
    )
    assert_same(doubled, plain, "decoder")


def test_the_bound_rises_to_the_exact_likelihood_with_the_number_of_samples() -> None:
    """A linear decoder with Gaussian noise: log p(x) has a closed form."""
    model = convae.build(
        {
            "input": [1, 3],
            "encoder": ["flatten"],
            "bottleneck": {"gaussian": {"latent": 2}},
            "decoder": [{"linear": {"features": 3}}, {"unflatten": {"to": [1, 3]}}],
            "likelihood": {"gaussian": {"sigma": 0.3, "link": "identity"}},
        }
    ).double()
    weight, bias = (parameter.detach() for parameter in model.decoder.parameters())
    covariance = weight @ weight.T + 0.09 * torch.eye(3, dtype=torch.float64)
    images = batch_for(model).images
    exact = MultivariateNormal(bias, covariance).log_prob(images.flatten(1))
    gaps = []
    with torch.no_grad():
        for samples in (1, 10, 1000, 100_000):
            objective = build_objective({"importance-weighted": {"samples": samples}})
            output = model.train()(images, torch_generator(0, "noise"), samples=samples)
            gaps.append(float((objective(images, output).total + exact.mean()).detach()))
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[3] == pytest.approx(0, abs=0.02)


def test_other_terms_are_averaged_over_the_samples() -> None:
    model = built(SPEC)
    batch = batch_for(model)
    output = drawn(model, batch, 5)
    objective = build_objective({"reconstruction": 0.5, "kl": 0.5, "importance-weighted": {"weight": 0.5}})
    assert objective.samples == 5
    losses = objective(batch, output)
    own = -output.likelihood.log_prob(batch.images.repeat_interleave(5, 0))
    torch.testing.assert_close(losses.terms["reconstruction"], own.view(4, 5).mean(1))
    torch.testing.assert_close(losses.terms["kl"], model.encode(batch.images).kl())
    assert all(each.shape == (4,) for each in losses.terms.values())
    elbo = losses.terms["reconstruction"] + losses.terms["kl"]
    assert bool(losses.terms["importance-weighted"].mean() < elbo.mean())


def test_the_noise_of_a_slice_is_that_of_the_whole_batch() -> None:
    model = built(SPEC)
    batch = batch_for(model, 7)
    whole = model(batch.images, CountedNoise(3, (1,), 0, 7), samples=4).latent
    parts = [model(part.images, CountedNoise(3, (1,), part.start, 7), samples=4).latent for part in batch.split(3)]
    torch.testing.assert_close(torch.cat(parts), whole)
    assert len(whole.unique(dim=0)) == 28


def test_what_it_cannot_bound_is_refused() -> None:
    model = built(SPEC)
    batch = batch_for(model)
    with pytest.raises(
        ConfigError, match=r"objective\.importance-weighted: needs 6 samples.*got 1.*objective\.samples"
    ):
        build_objective({"importance-weighted": {"samples": 3, "bounds": 2}})(batch, model(batch.images))
    codes = convae.build({**SPEC, "bottleneck": {"vq": {"codes": 4, "latent": 3}}}).eval().double()
    with pytest.raises(ConfigError, match="codes"):
        build_objective({"importance-weighted": {}})(batch, drawn(codes, batch, 5))
    ladder = built(LADDER)
    images = batch_for(ladder)
    for option in ("partial", "doubly_reparameterized"):
        with pytest.raises(ConfigError, match="one latent"):
            build_objective({"importance-weighted": {option: True}})(images, drawn(ladder, images, 5))
    with pytest.raises(ConfigError, match="samples"):
        model(batch.images, samples=0)


@pytest.mark.parametrize("options", [{}, {"bounds": 2, "samples": 3, "partial": True}])
def test_a_run_accumulates_exactly_and_logs_the_bound(options: dict[str, Any], tmp_path: Path) -> None:
    recipe: dict[str, Any] = {
        "data": "digits",
        "model": {
            **SPEC,
            "input": [1, 8, 8],
            "decoder": [{"linear": {"features": 64}}, {"unflatten": {"to": [1, 8, 8]}}],
        },
        "objective": {"importance-weighted": options, "reconstruction": 0, "kl": 0},
        "training": {"epochs": 1, "batch_size": 300, "pictures_every": 0, "precision": "float32"},
    }
    one = train(recipe, out=tmp_path / "one")
    two = train({**recipe, "training": {**recipe["training"], "accumulate": 3}}, out=tmp_path / "two")
    for mine, other in zip(one.model.state_dict().values(), two.model.state_dict().values(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)
    last = one.best
    assert math.isfinite(last["importance-weighted"])
    assert last["importance-weighted"] < last["reconstruction"] + last["kl"]
