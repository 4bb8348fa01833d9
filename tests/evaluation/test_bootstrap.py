from __future__ import annotations

import pytest
import torch

from convae.core.random import torch_generator
from convae.evaluation import bootstrap
from convae.evaluation.bootstrap import percentile_interval, resample_means


def normal(count: int, *words: str | int) -> torch.Tensor:
    return torch.randn(count, 1, generator=torch_generator(0, *words), dtype=torch.float64)


def test_the_interval_of_a_mean_is_that_of_the_normal_approximation() -> None:
    rows = normal(2000)
    low, high = percentile_interval(resample_means(rows, 0)).squeeze(1)
    error = rows.std() / 2000**0.5
    assert (low - rows.mean()) / error == pytest.approx(-1.96, abs=0.15)
    assert (high - rows.mean()) / error == pytest.approx(1.96, abs=0.15)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    trials = torch.cat([normal(50, trial) for trial in range(200)], dim=1)
    low, high = percentile_interval(resample_means(trials, 0, resamples=300))
    is_in_manifold = ((low < 0) & (high > 0)).double().mean()
    assert 0.88 < is_in_manifold < 0.99


def test_neither_columns_nor_blocks_change_what_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = normal(30)
    means = resample_means(rows, 0, resamples=20)
    wide = resample_means(torch.cat([rows, 2 * rows], dim=1), 0, resamples=20)
    torch.testing.assert_close(wide, torch.cat([means, 2 * means], dim=1))
    monkeypatch.setattr(bootstrap, "BLOCK", 70)
    torch.testing.assert_close(resample_means(rows, 0, resamples=20), means)


def test_constant_rows_have_an_interval_of_no_width() -> None:
    ends = percentile_interval(resample_means(torch.full((9, 2), 0.5, dtype=torch.float64), 0))
    torch.testing.assert_close(ends, torch.full((2, 2), 0.5, dtype=torch.float64))
