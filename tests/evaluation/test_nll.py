"""The importance-weighted bound against a marginal likelihood that is known."""

from __future__ import annotations

import pytest
import torch
from evaluation.conftest import Linear
from narrow import narrow

from convae.data import Split
from convae.evaluation import evaluate


def images_of(split: Split) -> torch.Tensor:
    return split.images(list(range(len(split)))).float() / 255


def test_with_the_true_posterior_one_latent_is_enough(digits: Split) -> None:
    exact = Linear(too_wide=1.0)
    rows = evaluate(exact.model, digits, options={"nll": {"samples": 1}}, metrics=["nll"]).rows["nll"]
    torch.testing.assert_close(rows, -exact.log_marginal(images_of(digits)), rtol=0, atol=2e-4)


def test_the_bound_falls_to_the_known_value_as_k_grows(linear: Linear, digits: Split) -> None:
    wanted = -linear.log_marginal(images_of(digits)).mean().item()
    gaps = [
        narrow(
            float, evaluate(linear.model, digits, options={"nll": {"samples": k}}, metrics=["nll"]).metrics["nll"].value
        )
        - wanted
        for k in (1, 8, 64, 512)
    ]
    assert gaps == sorted(gaps, reverse=True)
    # With one latent, the mean gap is the KL of the wrong posterior from the true one: 3 values, twice the variance.
    assert gaps[0] == pytest.approx(3 * 0.5 * (2 - 1 - torch.tensor(2.0).log().item()), abs=0.12)
    assert abs(gaps[-1]) < 0.02


def test_k_is_honored_exactly(linear: Linear, digits: Split) -> None:
    decoded: list[int] = []
    decoder = linear.model.decoder
    decoder.register_forward_hook(lambda _, inputs, __: decoded.append(len(inputs[0])))
    evaluate(linear.model, digits, options={"nll": {"samples": 7}}, metrics=["nll"], batch_size=100)
    assert sum(decoded) == 7 * len(digits)
