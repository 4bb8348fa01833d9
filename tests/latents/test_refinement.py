"""Refined posteriors, against the closed form of a linear-Gaussian model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evaluation.conftest import Linear
from narrow import narrow, present
from torch import Tensor

import convae
from convae.core.errors import ConfigError
from convae.core.output import Output
from convae.core.random import torch_generator
from convae.data import DataConfig, in_order, open_split
from convae.evaluation import evaluate
from convae.features.networks.encoder import Encoder
from convae.latents import Session, encode, encode_to, impute, read_manifest, refine
from convae.latents.inputs import encode_inputs
from convae.latents.refinement import torch_engine
from convae.model.vae import VAE

ENCODER = [{"conv": {"channels": 4, "stride": 2}}, "batch-norm", "relu", "flatten"]
DECODER = [
    {"linear": {"features": 64}},
    {"unflatten": {"to": [4, 4, 4]}},
    {"conv-transpose": {"channels": 1, "stride": 2}},
]
MODELS: dict[str, dict[str, Any]] = {
    "gaussian": {"bottleneck": {"gaussian": {"latent": 3}}},
    "full covariance": {"bottleneck": {"gaussian": {"latent": 3, "covariance": "full"}}},
    "flow": {"bottleneck": {"gaussian": {"latent": 3, "flow": {"planar": {"steps": 2}}}}},
    "sphere": {"bottleneck": {"von-mises-fisher": {"latent": 3}}},
    "learned prior": {"bottleneck": {"gaussian": {"latent": 3}}, "prior": {"mixture": {"components": 2}}},
    "conditional": {"bottleneck": {"gaussian": {"latent": 3}}, "condition": {"classes": 10}},
    "latent map": {
        "encoder": [{"conv": {"channels": 4, "stride": 2}}, "relu"],
        "bottleneck": {"gaussian": {"latent": 2}},
        "decoder": [{"conv-transpose": {"channels": 1, "stride": 2}}],
    },
}


def build(name: str) -> VAE:
    torch.manual_seed(0)
    return convae.build({"input": [1, 8, 8], "encoder": ENCODER, "decoder": DECODER, **MODELS[name]})


def digits(count: int) -> tuple[Tensor, Tensor]:
    (batch,) = in_order(open_split(DataConfig(source="digits"), "test"), count, indices=np.arange(count))
    return batch.images, present(batch.labels)


def elbo(model: VAE, features: Any, images: Tensor, samples: int = 64) -> Tensor:
    noise = torch_generator(1)
    with torch.no_grad():
        outputs = [model.decode_features(features, noise=noise) for _ in range(samples)]
        return torch.stack([own.likelihood.log_prob(images) - own.posterior.kl() for own in outputs]).mean(0)


def test_a_wrong_encoder_is_corrected_to_the_exact_posterior() -> None:
    linear = Linear(too_wide=6.0)
    images, _ = digits(40)
    with torch.no_grad():
        exact = linear.model.encode(images).mean
        dict(linear.model.named_parameters())["bottleneck.bias"][:3] += 0.8
    posterior = linear.model.posterior_of(refine(linear.model, images, steps=400))
    variance = 1 / (linear.weight.square().sum(0) / 0.3**2 + 1)
    torch.testing.assert_close(posterior.mean, exact, rtol=0, atol=0.05)
    torch.testing.assert_close(posterior.logvar, variance.log().expand(40, 3), rtol=0, atol=0.25)
    found = elbo(linear.model, refine(linear.model, images, steps=400), images).double()
    torch.testing.assert_close(found, linear.log_marginal(images), rtol=0, atol=0.8)
    assert found.mean() == pytest.approx(float(linear.log_marginal(images).mean()), abs=0.2)


@pytest.mark.parametrize("name", MODELS)
def test_the_elbo_rises_and_the_model_stays_as_it_is(name: str) -> None:
    model = build(name).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    images, labels = digits(12)
    given = labels if name == "conditional" else None
    features = refine(model, images, given, steps=60)
    assert model.training
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    model.eval()
    start = elbo(model, model.encode_features(images, given), images)
    assert (elbo(model, features, images) - start).mean() > 0.1
    alone = torch.cat([refine(model, x[None], y[None], steps=60).values for x, y in zip(images, labels, strict=True)])
    torch.testing.assert_close(features.values, alone, rtol=0, atol=2e-2)


def test_an_image_that_does_not_improve_keeps_the_posterior_of_the_encoder() -> None:
    linear = Linear(too_wide=1.0)
    images, _ = digits(20)
    kept = refine(linear.model, images, steps=1, learning_rate=50.0).values
    with torch.no_grad():
        torch.testing.assert_close(kept, linear.model.head_output(images))


def test_another_cost_is_minimized_in_place_of_the_negative_elbo() -> None:
    model = build("gaussian").eval()
    images, _ = digits(12)

    def error(output: Output, x: Tensor) -> Tensor:
        return (output.likelihood.mean - x).square().flatten(1).sum(1)

    found = model.decode_features(refine(model, images, steps=60, cost=error))
    by_elbo = model.decode_features(refine(model, images, steps=60))
    assert error(found, images).mean() < error(by_elbo, images).mean()


@pytest.mark.parametrize(
    "changed",
    [
        {"bottleneck": {"deterministic": {"latent": 3}}},
        {"bottleneck": {"codes": {"quantizer": {"fsq": {"levels": [4, 4]}}}}},
        {"preset": "ladder", "input": [1, 32, 32], "size": "tiny"},
    ],
    ids=["deterministic", "codes", "hierarchy"],
)
def test_models_without_parameters_to_refine_are_refused(changed: dict[str, Any]) -> None:
    model = convae.build(changed if "preset" in changed else {**MODELS["latent map"], "input": [1, 8, 8], **changed})
    with pytest.raises(ConfigError, match="has no posterior to refine"):
        refine(model, torch.rand(2, *model.input_shape))


def test_metrics_are_of_the_refined_posteriors() -> None:
    linear = Linear(too_wide=6.0)
    split = open_split(DataConfig(source="digits"), "test")
    names = ["elbo", "nll", "active-units"]
    plain = evaluate(linear.model, split, metrics=names)
    refined = evaluate(linear.model, split, metrics=names, refinement_steps=200)
    images, _ = digits(len(split))
    exact = linear.log_marginal(images)
    assert plain.rows["elbo"].mean() < exact.mean() - 1
    assert refined.rows["elbo"].mean() == pytest.approx(float(exact.mean()), abs=0.4)
    # Importance sampling from posteriors near the true ones has weights of nearly equal size.
    assert (refined.rows["nll"] + exact).std() < 0.5 * (plain.rows["nll"] + exact).std()
    assert "refinement" not in plain.protocol
    assert refined.protocol["refinement"] == {"steps": 200, "learning_rate": 0.05}


def test_missing_values_are_imputed_from_posteriors_of_the_observed_ones() -> None:
    linear = Linear(too_wide=1.0)
    (batch,) = in_order(
        open_split(DataConfig(source="digits", missing=0.5, fill=0.3), "test"), 12, indices=np.arange(12)
    )
    weights = present(batch.weights)
    found = impute(linear.model, batch.images, weights, refinement_steps=300)
    for row in range(12):
        seen = weights[row].flatten().bool()
        own, values = linear.weight[seen], batch.images[row].flatten()[seen] - 0.3
        latent = torch.linalg.solve(own.T @ own + 0.3**2 * torch.eye(3), own.T @ values)
        expected = (0.3 + linear.weight[~seen] @ latent).clamp(0, 1)
        torch.testing.assert_close(found[row].flatten()[~seen], expected, rtol=0, atol=0.09)


def test_posteriors_of_incomplete_images_are_refined_by_the_observed_values() -> None:
    linear = Linear(too_wide=1.0)
    split = open_split(DataConfig(source="digits", missing=0.5, fill=0.3), "test")
    engine = torch_engine(linear.model, 300)
    found = encode(linear.model, split, indices=np.arange(12), engine=engine).mean
    (batch,) = in_order(split, 12, indices=np.arange(12))
    whole = linear.model.posterior_of(refine(linear.model, batch.images, steps=300)).mean  # fill values as if observed
    errors, others = [], []
    for row, weights in enumerate(present(batch.weights)):
        seen = weights.flatten().bool()
        own, values = linear.weight[seen], batch.images[row].flatten()[seen] - 0.3
        exact = torch.linalg.solve(own.T @ own + 0.3**2 * torch.eye(3), own.T @ values)
        errors.append((found[row] - exact).abs().mean())
        others.append((whole[row] - exact).abs().mean())
    assert torch.stack(errors).mean() < 0.1
    assert torch.stack(errors).mean() < 0.4 * torch.stack(others).mean()
    named = encode_inputs(linear.model, [str(place) for place in range(12)], lambda: split, engine=engine)
    torch.testing.assert_close(named.z, found)
    decoded = linear.model.decode(found).mean.detach()
    torch.testing.assert_close(engine.reconstruct(batch.images, weights=batch.weights), decoded)


def test_sets_of_reconstructions_are_of_refined_posteriors() -> None:
    linear = Linear(too_wide=1.0)
    with torch.no_grad():
        dict(linear.model.named_parameters())["bottleneck.bias"][:3] += 1.5
    split = open_split(DataConfig(source="digits"), "test")
    features = Encoder(model=Linear().model)
    plain, refined = (
        evaluate(linear.model, split, metrics=["rfd"], features=features, refinement_steps=steps).metrics
        for steps in (0, 100)
    )
    (name,) = plain
    assert narrow(float, refined[name].value) < 0.2 * narrow(float, plain[name].value)


def test_folders_record_the_steps_and_refuse_a_mix(tmp_path: Path) -> None:
    session = Session(build("gaussian").eval(), data="digits", split="test")
    split = session.images
    engine = torch_engine(session.model, 5)
    encode_to(session.model, split, tmp_path, engine=engine)
    assert read_manifest(tmp_path)["refinement"]["steps"] == 5
    encode_to(session.model, split, tmp_path, engine=engine)
    for other in (torch_engine(session.model), torch_engine(session.model, 6)):
        with pytest.raises(convae.ConvaeError, match="another number of refinement steps"):
            encode_to(session.model, split, tmp_path, engine=other)
    found, plain = (encode(session.model, split, engine=own) for own in (engine, None))
    assert math.isfinite(float(found.mean.sum()))
    assert not torch.equal(found.mean, plain.mean)
