"""Figures of the latent space against closed forms and plain definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from evaluation.conftest import LINEAR, Linear
from torch.distributions import Normal

import convae
from convae.core.errors import ConfigError, DataError
from convae.core.random import torch_generator
from convae.data import Split
from convae.evaluation import evaluate, score_images
from convae.evaluation.aggregate import log_aggregate, query_positions
from convae.evaluation.metrics.active_units import ActiveUnits
from convae.evaluation.metrics.base import EncodedSplit
from convae.evaluation.metrics.linear_probe import LinearProbe
from convae.evaluation.metrics.nearest_neighbors import NearestNeighbors
from convae.evaluation.page import render_page
from convae.latents import build_latent_grid, encode, fit_class_gaussians, kl_per_dimension, nearest_latents, traverse
from convae.model.vae import VAE


def test_the_aggregate_is_the_mixture_of_the_posteriors() -> None:
    mean, logvar, z = torch.randn(3, 40, 5, generator=torch_generator(0), dtype=torch.float64)
    each = Normal(mean, (0.5 * logvar).exp()).log_prob(z[:, None]).sum(-1)
    torch.testing.assert_close(log_aggregate(z, mean, logvar), each.logsumexp(1) - math.log(40))


def test_the_aggregate_is_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    mean, logvar, z = torch.randn(3, 40, 5, generator=torch_generator(0), dtype=torch.float64)
    whole = log_aggregate(z, mean, logvar)
    monkeypatch.setattr("convae.evaluation.aggregate.BLOCK", 130)
    torch.testing.assert_close(log_aggregate(z, mean, logvar), whole)


def test_mutual_information_and_gap_add_up_to_the_kl_of_drawn_latents(model: VAE, digits: Split) -> None:
    figures = evaluate(model, digits).rows
    both = figures["mutual-information"] + figures["aggregate-gap"]
    # The one is an average over drawn latents, the other exact.
    assert abs(both.mean() - figures["kl"].mean()) < 4 * both.std() / len(both) ** 0.5


def encoded(mean: torch.Tensor, labels: torch.Tensor | None = None) -> EncodedSplit:
    return EncodedSplit(Linear().model, mean.double(), torch.zeros_like(mean).double(), mean.double(), labels)


def test_a_collapsed_posterior_tells_nothing_and_is_the_prior() -> None:
    flat = encoded(torch.zeros(50, 4))
    torch.testing.assert_close(flat.log_posterior, flat.log_aggregate)


def test_posteriors_far_apart_tell_which_image_it_was() -> None:
    apart = encoded(100 * torch.arange(8.0)[:, None].expand(8, 2))
    torch.testing.assert_close(apart.log_posterior - apart.log_aggregate, torch.full((8,), math.log(8.0)).double())


def test_active_units_counts_the_variances_above_the_threshold() -> None:
    mean = torch.randn(5000, 3, generator=torch_generator(0), dtype=torch.float64) * torch.tensor([1.0, 0.2, 0.05])
    rows = torch.cat([mean, mean.square()], dim=1).mean(0)
    assert [ActiveUnits(threshold=t).value(rows).item() for t in (0.9, 0.01, 0.001)] == [1, 2, 3]


@pytest.mark.parametrize("metric", [LinearProbe(), NearestNeighbors(k=3)])
def test_parted_classes_are_found_and_mixed_ones_are_not(metric: LinearProbe | NearestNeighbors) -> None:
    labels = torch.arange(200) % 2
    noise = torch.randn(200, 3, generator=torch_generator(0))
    parted = metric.rows(encoded(noise + 20 * labels[:, None], labels))
    mixed = metric.rows(encoded(noise, labels))
    assert parted.mean() == 1
    assert 0.3 < mixed.mean() < 0.7


def test_images_without_a_label_are_left_out() -> None:
    labels = torch.tensor([0, 1, -1] * 20)
    assert len(NearestNeighbors().rows(encoded(torch.randn(60, 2), labels))) == 40


def test_the_vote_is_that_of_the_nearest_others() -> None:
    points = torch.tensor([[0.0], [1.0], [1.5], [10.0], [11.0], [11.5]])
    labels = torch.tensor([0, 0, 1, 1, 1, 0])
    found = NearestNeighbors(k=1).rows(encoded(points, labels))
    assert found.tolist() == [1, 0, 0, 1, 0, 0]


def test_labels_are_needed(model: VAE, digits: Split) -> None:
    assert LinearProbe().applies(model, digits)
    digits.labels = np.zeros(len(digits), np.int64)
    assert not LinearProbe().applies(model, digits)
    digits.labels = None
    assert not NearestNeighbors().applies(model, digits)


@pytest.mark.parametrize("metric", [LinearProbe(), NearestNeighbors()])
def test_classes_that_the_encoder_sees_are_not_told_from_its_latents(
    metric: LinearProbe | NearestNeighbors, digits: Split
) -> None:
    conditional = convae.build({**LINEAR, "condition": {"classes": 10}})
    assert not metric.applies(conditional, digits)


@pytest.mark.parametrize("name", ["linear-probe", "nearest-neighbors"])
def test_latents_that_are_not_finite_are_not_classified(name: str, digits: Split) -> None:
    diverged = convae.build({**LINEAR, "encoder": ["flatten", {"linear": {"features": 8}}]})
    with torch.no_grad():
        for parameter in diverged.encoder.parameters():
            parameter.fill_(torch.nan)
    assert evaluate(diverged, digits, metrics=[name]).left_out[name] == "latents are not finite"


def test_figures_at_their_bound_are_no_measurements(digits: Split) -> None:
    """Posteriors that do not overlap: every image is told from every other, and log N is all that can be said."""
    linear = Linear(too_wide=1e-6)
    report = evaluate(linear.model, digits)
    found = report.metrics["mutual-information"]
    assert found.at_most == pytest.approx(math.log(202))
    assert found.interval is None
    assert found.texts()[0].startswith("≥ ")
    assert "aggregate-gap" not in report.metrics
    assert "log N" in report.left_out["aggregate-gap"]
    written = report.as_dict()
    assert written["mutual-information"]["bound"] == "lower"
    assert "aggregate-gap" in written["left_out"]
    assert "aggregate-gap" in render_page(linear.model, digits, report)
    measured = evaluate(Linear(too_wide=100).model, digits)
    assert measured.metrics["mutual-information"].at_most is None
    assert measured.metrics["aggregate-gap"].interval is not None


def test_the_aggregate_is_evaluated_at_evenly_spaced_latents(
    model: VAE, digits: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evaluate(model, digits, metrics=["mutual-information"])
    monkeypatch.setattr("convae.evaluation.aggregate.QUERIES", 60)
    some = evaluate(model, digits, metrics=["mutual-information"])
    assert query_positions(202).tolist()[:2] == [0, 3]
    rows = some.rows["mutual-information"]
    torch.testing.assert_close(rows, whole.rows["mutual-information"][query_positions(202)])


@pytest.mark.parametrize("name", ["active-units", "kl-per-unit", "mutual-information", "aggregate-gap", "nll"])
def test_figures_of_gaussians_are_not_given_for_codes(digits: Split, name: str) -> None:
    coded = convae.build(
        {
            "input": [1, 8, 8],
            "encoder": [{"conv": {"channels": 4, "stride": 2}}],
            "bottleneck": {"vq": {"codes": 5, "latent": 3}},
            "decoder": [{"conv-transpose": {"channels": 1, "stride": 2}}],
        }
    )
    assert name not in evaluate(coded, digits, metrics=["default"]).metrics
    with pytest.raises(ConfigError, match=f"'{name}'.*needs "):
        evaluate(coded, digits, metrics=[name])
    codes = encode(coded, digits)
    with pytest.raises(ConfigError, match="are codes"):
        kl_per_dimension(codes)
    with pytest.raises(ConfigError, match="are codes"):
        traverse(codes.mean[0], codes, torch.tensor([0]), 3)
    with pytest.raises(ConfigError, match="are codes"):
        build_latent_grid(codes, 3)
    with pytest.raises(ConfigError, match="are codes"):
        fit_class_gaussians(codes)
    between = nearest_latents(coded, codes.mean[:5].lerp(codes.mean[5:10], 0.5))
    book = coded.state_dict()["bottleneck.quantizer.codebook"]
    vectors = between.movedim(1, -1).flatten(0, -2)
    assert (vectors[:, None] == book).all(2).any(1).all()


def test_more_latents_make_a_steadier_elbo(model: VAE, digits: Split) -> None:
    once, often = (
        evaluate(model, digits, options={"elbo": {"samples": count}}, metrics=["elbo"]).rows["elbo"]
        for count in (1, 50)
    )
    other = evaluate(model, digits, options={"elbo": {"samples": 50}}, metrics=["elbo"], seed=1).rows["elbo"]
    assert (often - other).std() < (once - other).std() / 3


def test_a_figure_that_is_not_finite_says_for_which_images(model: VAE, digits: Split) -> None:
    with torch.no_grad():
        next(model.decoder.parameters()).fill_(float("nan"))
    report = evaluate(model, digits, metrics=["mse", "kl"])
    assert (report.metrics["mse"].not_finite, report.metrics["kl"].not_finite) == (202, 0)
    assert digits.key(0) in report.metrics["mse"].texts()[0]
    assert report.as_dict()["mse"]["not_finite"] == {"images": 202, "first": digits.key(0)}
    with pytest.raises(DataError, match=f"202 of 202 images.*'{digits.key(0)}'"):
        score_images(model, digits)


def test_evaluation_leaves_the_mode_of_the_model_alone(model: VAE, digits: Split) -> None:
    model.train()
    evaluate(model, digits, metrics=["mse", "mutual-information"])
    assert model.training
    assert model.encoder.training
