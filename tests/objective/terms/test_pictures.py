"""Terms that compare images: against oracles and closed forms, values and gradients."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    structural_similarity_index_measure,
)

from convae.core.errors import ConfigError, ShapeError
from convae.objective.objective import objective
from convae.objective.similarity import SCALE_WEIGHTS, ms_ssim, ssim
from convae.objective.terms.absolute_error import AbsoluteError
from convae.objective.terms.focal_frequency import FocalFrequency
from convae.objective.terms.gradient_difference import GradientDifference
from convae.objective.terms.ms_ssim import MSSSIM
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


@pytest.mark.parametrize("shape", [(3, 3, 20, 31), (2, 1, 8, 8), (2, 1, 6, 40), (2, 2, 12, 13, 11)])
def test_ssim_is_that_of_torchmetrics(shape: Any, passed: Any, drawn: Any) -> None:
    x = drawn(*shape, word="x")
    y = (x + drawn(*shape, word="y", low=-0.3, high=0.3)).clamp(0, 1)
    ours = SSIM()(passed(x, y))
    wanted = structural_similarity_index_measure(y, x, data_range=1.0, reduction="none")
    torch.testing.assert_close(1 - ours, wanted, rtol=0, atol=1e-9)
    single = ssim(x.float(), y.float())
    torch.testing.assert_close(single.double(), wanted, rtol=0, atol=1e-5)


def test_ssim_of_a_signal_is_that_of_the_image_with_the_signal_in_every_row(drawn: Any) -> None:
    x, y = drawn(2, 1, 30, word="x"), drawn(2, 1, 30, word="y")
    rows_x, rows_y = (signal.unsqueeze(2).expand(-1, -1, 15, -1).contiguous() for signal in (x, y))
    torch.testing.assert_close(ssim(x, y), ssim(rows_x, rows_y))


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_ssim_takes_images_smaller_than_its_window(size: int, drawn: Any) -> None:
    x, y = drawn(2, 1, size, 7, word="x"), drawn(2, 1, size, 7, word="y")
    torch.testing.assert_close(ssim(x, x), torch.ones(2, dtype=torch.float64))
    assert (ssim(x, y) < 1).all()


def test_ssim_of_flat_images_has_a_closed_form() -> None:
    x, y = torch.full((1, 1, 9, 9), 0.2, dtype=torch.float64), torch.full((1, 1, 9, 9), 0.6, dtype=torch.float64)
    assert ssim(x, y).item() == pytest.approx((2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4), rel=1e-12)


@pytest.mark.parametrize(("shape", "scales"), [((2, 1, 176, 181), 5), ((2, 3, 44, 50), 3), ((2, 1, 22, 45), 2)])
def test_ms_ssim_is_that_of_torchmetrics(shape: Any, scales: int, passed: Any, drawn: Any) -> None:
    x = drawn(*shape, word="x")
    y = (x + drawn(*shape, word="y", low=-0.3, high=0.3)).clamp(0, 1)
    # As published, the exponents of five scales sum to 1.0001.
    betas = tuple(weight * sum(SCALE_WEIGHTS) / sum(SCALE_WEIGHTS[:scales]) for weight in SCALE_WEIGHTS[:scales])
    wanted = multiscale_structural_similarity_index_measure(y, x, data_range=1.0, reduction="none", betas=betas)
    torch.testing.assert_close(1 - MSSSIM(scales=scales)(passed(x, y)), wanted, rtol=0, atol=1e-5)
    torch.testing.assert_close(ms_ssim(x.float(), y.float(), scales=scales).double(), wanted, rtol=0, atol=1e-5)


def test_ms_ssim_has_the_right_gradient_and_none_where_images_are_opposites(drawn: Any) -> None:
    x, y = drawn(1, 1, 22, 22, word="x"), drawn(1, 1, 22, 22, word="y", low=-0.2, high=0.2)
    near = (x * 0.5 + 0.25 + y).requires_grad_()
    assert torch.autograd.gradcheck(lambda y: ms_ssim(x, y, scales=2), (near,), fast_mode=True)
    opposite = (1 - x).requires_grad_()
    value = ms_ssim(x, opposite, scales=2)
    value.sum().backward()
    assert value.item() == 0
    assert opposite.grad is not None
    assert not opposite.grad.any()


@pytest.mark.parametrize(
    ("size", "message"),
    [(175, "at 5 scales needs sizes of 176 or more, but the images are 175×200: use 4 scales"), (9, "use SSIM")],
)
def test_ms_ssim_says_the_least_size(size: int, message: str, passed: Any) -> None:
    x = torch.rand(1, 1, size, 200)
    with pytest.raises(ShapeError, match=message):
        MSSSIM()(passed(x))


def test_similarity_keeps_its_digits_under_autocast(drawn: Any) -> None:
    x, y = drawn(2, 1, 12, 12, word="x").float(), drawn(2, 1, 12, 12, word="y").float()
    with torch.autocast("cpu", torch.bfloat16):
        inside = ssim(x, y)
    assert torch.equal(inside, ssim(x, y))
    assert ssim(x.bfloat16(), y.bfloat16()).dtype == torch.float32


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
        objective(written)
