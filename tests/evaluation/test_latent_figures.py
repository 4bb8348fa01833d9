"""Figures of the latent space against closed forms and plain definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from evaluation.conftest import Linear
from torch.distributions import Normal

from convae.core.random import torch_generator
from convae.data import Split
from convae.evaluation import evaluate
from convae.evaluation.aggregate import log_aggregate
from convae.evaluation.metrics.active_units import ActiveUnits
from convae.evaluation.metrics.base import Encoded
from convae.evaluation.metrics.linear_probe import LinearProbe
from convae.evaluation.metrics.nearest_neighbours import NearestNeighbours
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


def encoded(mean: torch.Tensor, labels: torch.Tensor | None = None) -> Encoded:
    return Encoded(Linear().model, mean.double(), torch.zeros_like(mean).double(), mean.double(), labels)


def test_a_collapsed_posterior_tells_nothing_and_is_the_prior() -> None:
    flat = encoded(torch.zeros(50, 4))
    torch.testing.assert_close(flat.log_posterior, flat.log_aggregate)


def test_posteriors_far_apart_tell_which_image_it_was() -> None:
    apart = encoded(100 * torch.arange(8.0)[:, None].expand(8, 2))
    torch.testing.assert_close(apart.log_posterior - apart.log_aggregate, torch.full((8,), math.log(8.0)).double())


def test_active_units_counts_the_variances_above_the_threshold() -> None:
    mean = torch.randn(5000, 3, generator=torch_generator(0), dtype=torch.float64) * torch.tensor([1.0, 0.2, 0.05])
    rows = torch.cat([mean, mean.square()], dim=1).mean(0)
    assert [ActiveUnits(threshold=t).figure(rows).item() for t in (0.9, 0.01, 0.001)] == [1, 2, 3]


@pytest.mark.parametrize("metric", [LinearProbe(), NearestNeighbours(k=3)])
def test_parted_classes_are_found_and_mixed_ones_are_not(metric: LinearProbe | NearestNeighbours) -> None:
    labels = torch.arange(200) % 2
    noise = torch.randn(200, 3, generator=torch_generator(0))
    parted = metric.rows(encoded(noise + 20 * labels[:, None], labels))
    mixed = metric.rows(encoded(noise, labels))
    assert parted.mean() == 1
    assert 0.3 < mixed.mean() < 0.7


def test_images_without_a_label_are_left_out() -> None:
    labels = torch.tensor([0, 1, -1] * 20)
    assert len(NearestNeighbours().rows(encoded(torch.randn(60, 2), labels))) == 40


def test_the_vote_is_that_of_the_nearest_others() -> None:
    points = torch.tensor([[0.0], [1.0], [1.5], [10.0], [11.0], [11.5]])
    labels = torch.tensor([0, 0, 1, 1, 1, 0])
    found = NearestNeighbours(k=1).rows(encoded(points, labels))
    assert found.tolist() == [1, 0, 0, 1, 0, 0]


def test_labels_are_needed(model: VAE, digits: Split) -> None:
    assert LinearProbe().applies(model, digits)
    digits.labels = np.zeros(len(digits), np.int64)
    assert not LinearProbe().applies(model, digits)
    digits.labels = None
    assert not NearestNeighbours().applies(model, digits)
