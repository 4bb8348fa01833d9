"""Distances between sets of features, against closed forms and plain definitions; and scores that part two sets."""

from __future__ import annotations

import itertools
import json

import pytest
import torch
from evaluation.conftest import Linear
from narrow import narrow
from scipy import stats
from sklearn.metrics import roc_auc_score
from torch import Tensor

import convae
from convae.core.errors import ConfigError, DataError, ShapeError
from convae.core.random import torch_generator
from convae.data import Split
from convae.evaluation import auroc, evaluate, separate
from convae.evaluation.distances import frechet_distance, is_in_manifold, kernel_distance
from convae.evaluation.metrics.kd import KD
from convae.features.networks.encoder import Encoder
from convae.model.fingerprint import fingerprint
from convae.model.vae import VAE


def normal(count: int, size: int, *words: str | int) -> torch.Tensor:
    return torch.randn(count, size, generator=torch_generator(0, *words), dtype=torch.float64)


def whitened(points: torch.Tensor) -> torch.Tensor:
    """Points with exactly the mean 0 and the covariance 1."""
    points = points - points.mean(0)
    return points @ narrow(Tensor, torch.linalg.inv(torch.linalg.cholesky(torch.cov(points.T)))).T


def test_the_frechet_distance_is_the_closed_form_of_the_gaussians() -> None:
    shift, scale = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([2.0, 0.5, 1.0])
    first, second = whitened(normal(50, 3, 1)), whitened(normal(60, 3, 2)) * scale + shift
    # Diagonal covariances: |μ|² + Σ (1 − s)².
    wanted = shift.square().sum() + (1 - scale).square().sum()
    assert frechet_distance(first, second) == pytest.approx(float(wanted), rel=1e-6)
    turn = torch.linalg.qr(normal(3, 3, 3))[0]
    assert frechet_distance(first @ turn, second @ turn) == pytest.approx(float(wanted), rel=1e-6)
    assert frechet_distance(second, first) == pytest.approx(float(wanted), rel=1e-6)
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-9)


def test_the_frechet_distance_of_equal_gaussians_falls_with_the_number_of_images() -> None:
    found = [
        frechet_distance(normal(count, 8, count, "a"), normal(count, 8, count, "b"))
        for count in (20, 200, 2000, 20_000)
    ]
    assert found == sorted(found, reverse=True)
    assert 0 < found[-1] < 0.01


def test_more_features_than_images_have_a_distance() -> None:
    assert frechet_distance(normal(5, 20, 1), normal(5, 20, 2)) > 0
    with pytest.raises(DataError, match="got 1 and 5"):
        frechet_distance(normal(1, 2), normal(5, 2))


def test_the_kernel_distance_is_its_definition() -> None:
    x, y = normal(6, 3, 1), normal(6, 3, 2) + 0.3

    def k(a: torch.Tensor, b: torch.Tensor) -> float:
        return float((a @ b / 3 + 1) ** 3)

    within = sum(k(x[i], x[j]) + k(y[i], y[j]) for i in range(6) for j in range(6) if i != j) / 30
    between = sum(k(x[i], y[j]) for i in range(6) for j in range(6)) / 36
    assert kernel_distance(x, y) == pytest.approx(within - 2 * between)


def test_the_kernel_distance_of_equal_distributions_is_zero_on_average() -> None:
    found = torch.tensor(
        [kernel_distance(normal(50, 4, trial, "x"), normal(50, 4, trial, "y")) for trial in range(200)]
    )
    assert abs(found.mean()) < 4 * found.std() / 200**0.5


def test_the_blocks_of_the_kernel_distance_are_random_where_both_sets_are_sorted_by_class() -> None:
    """As samples of a conditional model are, for a folder of classes."""
    centers = 3 * normal(10, 8, "centers").repeat_interleave(100, 0)
    real, other = centers + normal(1000, 8, "real"), centers + normal(1000, 8, "other")
    apart = KD(block=1000).measure(centers, centers.flip(1), 0).value
    found = KD(block=100).measure(real, other, 0)
    assert abs(found.value) < 0.1 * apart
    assert found.interval is not None
    assert found.interval[0] < 0 < found.interval[1]


@pytest.mark.parametrize("blocks", [2, 3, 4, 21])
def test_the_interval_of_the_kernel_distance_is_that_of_the_mean_of_few_blocks(
    blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = normal(blocks, 1, "blocks")[:, 0].double().numpy()
    left = itertools.cycle(values)
    monkeypatch.setattr("convae.evaluation.metrics.kd.kernel_distance", lambda *_: next(left))
    sets = normal(10 * blocks, 2, "features")
    found = KD(block=10).measure(sets, sets, 0)
    assert found.value == pytest.approx(values.mean())
    expected = stats.t.interval(0.95, blocks - 1, values.mean(), stats.sem(values))
    assert found.interval == pytest.approx(expected)
    assert KD(block=20 * blocks).measure(sets, sets, 0).interval is None


def test_the_reach_of_a_set_is_the_union_of_its_balls(monkeypatch: pytest.MonkeyPatch) -> None:
    by = torch.tensor([[0.0], [1.0], [10.0], [13.0]])
    points = torch.tensor([[-1.0], [-1.5], [2.0], [6.5], [7.0], [16.5]])
    assert is_in_manifold(points, by, 1).tolist() == [True, False, True, False, True, False]
    monkeypatch.setattr("convae.evaluation.distances.BLOCK", 4)
    assert is_in_manifold(points, by, 1).tolist() == [True, False, True, False, True, False]
    with pytest.raises(DataError, match="5 images, got 4"):
        is_in_manifold(points, by, 4)


def test_figures_of_samples_are_named_after_the_network(model: VAE, digits: Split) -> None:
    features = Encoder(model=convae.build({"preset": "torch-vae", "input": [1, 8, 8], "latent": 4}))
    found, again = (
        evaluate(model, digits, metrics=["fd", "kd", "precision", "recall"], features=features, batch_size=size)
        for size in (202, 50)
    )
    written = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    names = {"fd-torch-vae", "kd-torch-vae", "precision-torch-vae", "recall-torch-vae"}
    assert set(written) == {*names, "protocol"}
    assert written["protocol"]["features"]["samples"] == 202
    assert written["protocol"]["features"]["sha256"] != fingerprint(model)
    assert written["fd-torch-vae"]["interval"] is None
    for name in names:
        assert again.metrics[name].value == pytest.approx(found.metrics[name].value, rel=1e-3)


def test_samples_that_are_all_alike_show_nothing_of_the_images(digits: Split) -> None:
    features, model = Encoder(model=Linear().model), Linear().model
    before = narrow(float, evaluate(model, digits, metrics=["recall"], features=features).metrics["recall-vae"].value)
    with torch.no_grad():
        next(model.decoder.parameters()).zero_()
    after = narrow(float, evaluate(model, digits, metrics=["recall"], features=features).metrics["recall-vae"].value)
    assert before > after == 0


def test_without_a_network_samples_are_not_compared(model: VAE, digits: Split) -> None:
    assert not [name for name in evaluate(model, digits, metrics=["all"]).metrics if name.startswith(("fd", "kd"))]
    with pytest.raises(ConfigError, match=r"'fd'.*--features"):
        evaluate(model, digits, metrics=["fd"])
    with pytest.raises(ShapeError):
        evaluate(model, digits, metrics=["fd"], features=Encoder(model=convae.build("torch-vae")))


def test_auroc_is_that_of_scikit_learn_ties_and_all() -> None:
    known, foreign = normal(80, 1, 1)[:, 0].round(decimals=1), (normal(50, 1, 2)[:, 0] + 1).round(decimals=1)
    value, (low, high) = auroc(known, foreign)
    labels = [0] * 80 + [1] * 50
    assert value == pytest.approx(roc_auc_score(labels, torch.cat([known, foreign]).numpy()))
    assert 0 < low < value < high < 1
    assert auroc(known, known)[0] == pytest.approx(0.5)


@pytest.mark.parametrize(("known", "foreign", "low"), [(3, 4, 0.4), (1, 1, 0.1), (100, 100, 0.95), (1000, 1, 0.2)])
def test_a_perfect_separation_of_few_images_is_not_certain(known: int, foreign: int, low: float) -> None:
    value, (lower, upper) = auroc(torch.zeros(known), torch.ones(foreign))
    assert (value, upper) == (1.0, 1.0)
    assert low < lower < 1 - 1 / (4 * known * foreign)
    value, (mirrored, upper) = auroc(torch.ones(known), torch.zeros(foreign))
    assert (value, mirrored) == (0.0, 0.0)
    assert upper == pytest.approx(1 - lower)


def test_the_interval_of_auroc_holds_the_truth_about_as_often_as_it_says() -> None:
    truth = torch.distributions.Normal(0, 2**0.5).cdf(torch.tensor(1.0))
    ends = [auroc(normal(60, 1, t, "a")[:, 0], normal(60, 1, t, "b")[:, 0] + 1)[1] for t in range(200)]
    assert 0.88 < sum(bool(low < truth < high) for low, high in ends) / 200 < 0.99


def test_equal_sets_cannot_be_told_apart(digits: Split) -> None:
    linear = Linear()
    found = separate(linear.model, digits, digits)
    assert found.auroc == pytest.approx(0.5)
    assert found.unit == "nats"
    assert torch.equal(found.in_distribution, found.ood)
    written = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert written["protocol"]["score"] == "elbo"
    assert written["protocol"]["ood_data"]["content_hash"] == digits.content_hash
    torch.testing.assert_close(found.in_distribution, -evaluate(linear.model, digits, metrics=["elbo"]).rows["elbo"])


def test_a_figure_that_is_no_score_is_refused(model: VAE, digits: Split) -> None:
    with pytest.raises(ConfigError, match="'kl-per-unit'"):
        separate(model, digits, digits, score="kl-per-unit")
