"""Structural similarity, the functions and their terms: against torchmetrics and closed forms, at every size."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    structural_similarity_index_measure,
)

from convae.core.errors import ShapeError
from convae.objective.similarity import SCALE_WEIGHTS, ms_ssim, ssim
from convae.objective.terms.ms_ssim import MSSSIM
from convae.objective.terms.ssim import SSIM


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


@pytest.mark.parametrize(("shape", "scales"), [((2, 1, 176, 181), 5), ((2, 3, 44, 50), 3), ((2, 1, 22, 23, 24), 2)])
def test_ms_ssim_is_that_of_torchmetrics(shape: Any, scales: int, passed: Any, drawn: Any) -> None:
    x = drawn(*shape, word="x")
    y = (x + drawn(*shape, word="y", low=-0.3, high=0.3)).clamp(0, 1)
    # As published, the exponents of five scales sum to 1.0001.
    betas = tuple(weight * sum(SCALE_WEIGHTS) / sum(SCALE_WEIGHTS[:scales]) for weight in SCALE_WEIGHTS[:scales])
    wanted = multiscale_structural_similarity_index_measure(y, x, data_range=1.0, reduction="none", betas=betas)
    torch.testing.assert_close(1 - MSSSIM(scales=scales)(passed(x, y)), wanted, rtol=0, atol=1e-5)
    torch.testing.assert_close(ms_ssim(x.float(), y.float(), scales=scales).double(), wanted, rtol=0, atol=1e-5)


def test_ms_ssim_of_a_signal_is_that_of_the_image_with_the_signal_in_every_row(drawn: Any) -> None:
    x, y = drawn(2, 1, 50, word="x"), drawn(2, 1, 50, word="y")
    rows_x, rows_y = (signal.unsqueeze(2).expand(-1, -1, 44, -1).contiguous() for signal in (x, y))
    torch.testing.assert_close(ms_ssim(x, y, scales=3), ms_ssim(rows_x, rows_y, scales=3))


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
