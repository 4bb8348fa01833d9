"""Terms that compare images: against oracles and closed forms, values and gradients."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from convae.core.errors import ConfigError
from convae.objective.objective import build_objective
from convae.objective.terms.absolute_error import AbsoluteError
from convae.objective.terms.focal_frequency import FocalFrequency
from convae.objective.terms.gradient_difference import GradientDifference
from convae.objective.terms.reconstruction import Reconstruction
from convae.objective.terms.squared_error import SquaredError
from convae.objective.terms.ssim import SSIM

any_axes = pytest.mark.parametrize("sizes", [(9,), (5, 4), (3, 4, 3)], ids=["signal", "image", "volume"])


@any_axes
def test_squared_and_absolute_error_are_sums_over_the_image(sizes: Any, passed: Any, drawn: Any) -> None:
    x, y = drawn(3, 2, *sizes, word="x"), drawn(3, 2, *sizes, word="y")
    difference = (x - y).reshape(3, -1).numpy()
    np.testing.assert_allclose(SquaredError()(passed(x, y)), (difference**2).sum(1), rtol=1e-12)
    np.testing.assert_allclose(AbsoluteError()(passed(x, y)), np.abs(difference).sum(1), rtol=1e-12)


def test_squared_error_is_the_gaussian_of_root_half_but_for_a_constant(passed: Any, drawn: Any) -> None:
    x, y = drawn(3, 2, 4, 5, word="x"), drawn(3, 2, 4, 5, word="y")
    given = passed(x, y)
    nats = torch.distributions.Normal(y, math.sqrt(0.5)).log_prob(x).flatten(1).sum(1)
    torch.testing.assert_close(SquaredError()(given), -nats - 20 * math.log(math.pi), rtol=1e-10, atol=1e-10)
    # The test's model has a sigma of 1, for which the error is twice the negative log-likelihood.
    torch.testing.assert_close(SquaredError()(given), 2 * Reconstruction()(given) - 40 * math.log(2 * math.pi))


@any_axes
@pytest.mark.parametrize(
    "term",
    [
        SquaredError(),
        AbsoluteError(),
        SSIM(),
        FocalFrequency(alpha=0.0),
        GradientDifference(),
        GradientDifference(alpha=2.0),
        Reconstruction(),
    ],
    ids=lambda term: type(term).__name__,
)
def test_gradients_are_right(term: Any, sizes: Any, passed: Any, drawn: Any) -> None:
    x = drawn(2, 1, *sizes, word="x")
    y = drawn(2, 1, *sizes, word="y").requires_grad_()
    assert torch.autograd.gradcheck(lambda y: term(passed(x, y)), (y,))


def focal_frequency_by_numpy(x: Tensor, y: Tensor, alpha: float) -> Any:
    """Equations 8 and 9 of the paper with the discrete Fourier transform as a sum over all positions."""
    height, width = x.shape[2:]
    rows = np.exp(-2j * np.pi * np.outer(range(height), range(height)) / height) / math.sqrt(height)
    columns = np.exp(-2j * np.pi * np.outer(range(width), range(width)) / width) / math.sqrt(width)
    distance = np.abs(rows @ x.detach().numpy() @ columns - rows @ y.detach().numpy() @ columns)
    weight = distance**alpha / (distance**alpha).max((2, 3), keepdims=True)
    return (weight * distance**2).mean((1, 2, 3)), weight


@pytest.mark.parametrize("alpha", [0.0, 1.0, 2.5])
def test_focal_frequency_is_that_of_the_paper(alpha: float, passed: Any, drawn: Any) -> None:
    x, y = drawn(3, 2, 7, 6, word="x"), drawn(3, 2, 7, 6, word="y").requires_grad_()
    wanted, weight = focal_frequency_by_numpy(x, y, alpha)
    ours = FocalFrequency(alpha=alpha)(passed(x, y))
    np.testing.assert_allclose(ours.detach(), wanted, rtol=1e-10)
    ours.sum().backward()
    # With the weights held, the term is a quadratic form: its gradient is the weighted spectrum, turned back.
    spectrum = np.fft.fft2((y.detach() - x).numpy(), norm="ortho")
    gradient = np.fft.ifft2(2 * weight * spectrum, norm="ortho").real / y[0].numel()
    np.testing.assert_allclose(y.grad, gradient, rtol=1e-9, atol=1e-15)


def test_focal_frequency_without_focus_is_the_mean_squared_error(passed: Any, drawn: Any) -> None:
    x, y = drawn(3, 2, 7, 6, word="x"), drawn(3, 2, 7, 6, word="y")
    mean = (x - y).square().flatten(1).mean(1)
    torch.testing.assert_close(FocalFrequency(alpha=0.0)(passed(x, y)), mean)


def test_focal_frequency_of_an_exact_image_is_zero(passed: Any, drawn: Any) -> None:
    y = drawn(2, 1, 4, 4).requires_grad_()
    values = FocalFrequency()(passed(y.detach(), y))
    values.sum().backward()
    assert not values.any()
    assert y.grad is not None
    assert not y.grad.any()


def test_gradient_difference_is_that_of_the_paper(passed: Any) -> None:
    x = torch.tensor([[[[0.0, 0.5], [0.25, 1.0]]]], dtype=torch.float64)
    y = torch.tensor([[[[0.5, 0.5], [0.0, 0.25]]]], dtype=torch.float64)
    # Steps down: ¼ and ½ against ½ and ¼. Steps right: ½ and ¾ against 0 and ¼.
    assert GradientDifference()(passed(x, y)).item() == pytest.approx(1 / 4 + 1 / 4 + 1 / 2 + 1 / 2)
    squares = GradientDifference(alpha=2.0)(passed(x, y)).item()
    assert squares == pytest.approx(1 / 16 + 1 / 16 + 1 / 4 + 1 / 4)


def test_gradient_difference_does_not_see_brightness(passed: Any, drawn: Any) -> None:
    x = drawn(2, 3, 5, 5, high=0.5)
    assert GradientDifference()(passed(x, x + 0.25)).max() < 1e-12


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"ms-ssim": {"scales": 6}}, r"objective.ms-ssim: scales: .*less than or equal to 5.*got 6"),
        ({"focal-frequency": {"alfa": 1}}, "unknown key 'alfa': did you mean 'alpha'"),
        ({"gradient-difference": {"alpha": 0.5}}, "objective.gradient-difference: alpha"),
    ],
)
def test_wrong_arguments_are_named(written: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_objective(written)
