"""`benchmarks.torch_vae` measures the objective that `squared-error` and `kl` train."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import convae
from benchmarks.torch_vae import exact_bound, measure, measure_plain
from benchmarks.training.peers import torch_vae
from convae.core.random import torch_generator
from convae.data import DataConfig, in_order, open_split
from convae.objective.objective import build_objective
from convae.objective.schedules.base import Moment


def test_the_objective_is_that_of_the_terms(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((3, 64, 64, 1), np.float32))
    images = open_split(DataConfig(source=str(tmp_path / "x.npy")), "all")
    model = convae.build({"preset": "torch-vae", "input": [1, 64, 64], "latent": 2, "max_filters": 8}).eval()
    found = measure(model, images)
    objective = build_objective({"squared-error": 1, "kl": 1})
    objective.bind(model.latent_shape, model.input_shape)
    (batch,) = in_order(images, 3)
    with torch.no_grad():
        losses = objective(batch, model(batch.images, torch_generator(0, "noise", 0)), Moment(1, 1.0, 1.0))
    assert losses.total.item() == pytest.approx(float((found.squared_error + found.kl).mean()), rel=1e-5)
    assert str(found).endswith(f" ± {float((found.squared_error + found.kl).std() / 3**0.5):.2f}")


def test_the_original_training_minimizes_the_same_objective(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((4, 64, 64, 1), np.float32))
    images = open_split(DataConfig(source=str(tmp_path / "x.npy")), "all")
    network = torch_vae(64, latent=2, channels=1).eval()
    torch.manual_seed(0)
    found = measure_plain(network, images)
    torch.manual_seed(0)
    (batch,) = in_order(images, 4)
    with torch.no_grad():
        loss = network(batch.images)
    assert loss.item() == pytest.approx(float((found.squared_error + found.kl).mean()), rel=1e-5)


def test_no_posterior_has_a_lower_objective_than_the_exact_one(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((3, 64, 64, 1), np.float32))
    images = open_split(DataConfig(source=str(tmp_path / "x.npy")), "all")
    model = convae.build({"preset": "torch-vae", "input": [1, 64, 64], "latent": 2, "max_filters": 8}).eval()
    (batch,) = in_order(images, 3)
    bound = exact_bound(model, batch.images, side=60)
    torch.testing.assert_close(bound, exact_bound(model, batch.images, side=90), rtol=1e-4, atol=0)
    # The decoder has random weights, so that the posterior is close to a Gaussian, and refinement to its optimum.
    encoded, refined = (measure(model, images, steps=steps) for steps in (0, 200))
    for found in (encoded, refined):
        assert float((found.squared_error + found.kl - bound).mean()) > -0.05
    assert float((refined.squared_error + refined.kl - bound).mean()) < 0.5
