"""Metrics and imputation of images with missing values, against the closed form of a linear-Gaussian model."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from evaluation.conftest import SIGMA, Linear
from narrow import narrow, present
from torch import Tensor

import convae
from convae.core.errors import ConfigError
from convae.core.random import torch_generator
from convae.core.types import Batch
from convae.data import DataConfig, Split, in_order, open_split
from convae.evaluation import evaluate
from convae.latents import impute

DTYPE = torch.float64


@pytest.fixture
def dropped(shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Split:
    """The 202 test digits with half of their pixels; the encoder sees the mean of the model in place of the others."""
    monkeypatch.setenv("CONVAE_CACHE", str(shared_cache))
    return open_split(DataConfig(source="digits", missing=0.5, fill=0.3), "test")


def observed_parts(linear: Linear, batch: Batch, row: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of an image: which values are observed, these values less the mean, and their covariance."""
    seen = present(batch.weights)[row].flatten().bool()
    weight = linear.weight.to(DTYPE)[seen]
    covariance = weight @ weight.T + SIGMA**2 * torch.eye(len(weight), dtype=DTYPE)
    return seen, batch.images[row].flatten().to(DTYPE)[seen] - 0.3, covariance


def test_the_likelihood_is_that_of_the_observed_values(dropped: Split) -> None:
    linear = Linear(too_wide=4.0)
    nll = evaluate(linear.model, dropped, metrics=["nll"], options={"nll": {"samples": 300}}).rows["nll"][:20]
    batch = next(in_order(dropped, 20))
    exact = []
    for row in range(20):
        _, values, covariance = observed_parts(linear, batch, row)
        marginal = torch.distributions.MultivariateNormal(torch.zeros_like(values), covariance)
        exact.append(-narrow(Tensor, marginal.log_prob(values)))
    torch.testing.assert_close(nll, torch.stack(exact), rtol=0, atol=0.5)
    assert (nll - torch.stack(exact)).mean().abs() < 0.1


def test_imputed_values_approach_their_expectation(dropped: Split) -> None:
    linear = Linear(too_wide=4.0)
    batch = next(in_order(dropped, 8))
    weights = present(batch.weights)
    found = impute(linear.model, batch.images, weights, samples=1500, noise=torch_generator(0))
    torch.testing.assert_close(found * weights, batch.images * weights)
    for row in range(8):
        seen, values, covariance = observed_parts(linear, batch, row)
        weight = linear.weight.to(DTYPE)
        expected = 0.3 + weight[~seen] @ weight[seen].T @ torch.linalg.solve(covariance, values)
        torch.testing.assert_close(found[row].flatten()[~seen].to(DTYPE), expected.clamp(0, 1), rtol=0, atol=0.06)


def test_one_sample_is_the_reconstruction(linear: Linear, dropped: Split) -> None:
    batch = next(in_order(dropped, 8))
    weights = present(batch.weights)
    with torch.no_grad():
        decoded = linear.model.decode(linear.model.encode(batch.images).mean).mean
    found = impute(linear.model, batch.images, weights)
    torch.testing.assert_close(found, torch.where(weights > 0, batch.images, decoded))


def test_errors_are_those_of_the_observed_values(linear: Linear, dropped: Split) -> None:
    found = evaluate(linear.model, dropped, metrics=["mse", "psnr", "kl", "reconstruction", "elbo"])
    batch = next(in_order(dropped, 202))
    with torch.no_grad():
        decoded = linear.model.decode(linear.model.encode(batch.images).mean).mean
    seen = present(batch.weights).bool().flatten(1)
    squares = (batch.images - decoded).square().flatten(1)
    expected = torch.stack([own[which].mean() for own, which in zip(squares, seen, strict=True)])
    torch.testing.assert_close(found.rows["mse"], expected.double(), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(found.rows["psnr"], -10 * expected.double().log10(), rtol=1e-5, atol=1e-5)
    parts = -found.rows["reconstruction"] - found.rows["kl"]
    torch.testing.assert_close(found.rows["elbo"], parts, rtol=1e-5, atol=1e-4)
    assert found.protocol["data"]["missing"] == 0.5


def test_metrics_of_whole_images_are_refused_by_name_and_omitted_otherwise(linear: Linear, dropped: Split) -> None:
    with pytest.raises(ConfigError, match="ssim"):
        evaluate(linear.model, dropped, metrics=["ssim"])
    assert not {"ssim", "ms-ssim"} & set(evaluate(linear.model, dropped).metrics)


def test_bits_are_those_of_the_observed_values(dropped: Split) -> None:
    model = convae.build(
        {
            "input": [1, 8, 8],
            "encoder": ["flatten"],
            "bottleneck": {"gaussian": {"latent": 3}},
            "decoder": [{"linear": {"features": 64}}, {"unflatten": {"to": [1, 8, 8]}}],
            "likelihood": "discretized-logistic",
        }
    )
    found = evaluate(model, dropped, metrics=["elbo", "bits-per-dimension"]).rows
    count = present(next(in_order(dropped, 202)).weights).flatten(1).sum(1).double()
    torch.testing.assert_close(
        found["bits-per-dimension"], -found["elbo"] / (count * math.log(2)), rtol=1e-5, atol=1e-6
    )
