"""Passes through a model that is not there: what terms judge, with every part chosen by the test."""

from __future__ import annotations

from typing import Protocol

import pytest
import torch
from torch import Tensor

from convae.core.output import Output
from convae.core.posterior import GaussianPosterior
from convae.core.random import torch_generator
from convae.model.likelihoods.gaussian import GaussianLikelihood
from convae.objective.schedules.base import Moment
from convae.objective.terms.base import LossInputs

START = Moment(0, 0.0, 0.0)


class Passed(Protocol):
    def __call__(
        self,
        x: Tensor,
        y: Tensor | None = None,
        *,
        mean: Tensor | None = None,
        logvar: Tensor | None = None,
        labels: Tensor | None = None,
        logits: Tensor | None = None,
        moment: Moment = START,
    ) -> LossInputs: ...


def _passed(
    x: Tensor,
    y: Tensor | None = None,
    *,
    mean: Tensor | None = None,
    logvar: Tensor | None = None,
    labels: Tensor | None = None,
    logits: Tensor | None = None,
    moment: Moment = START,
) -> LossInputs:
    mean = x.new_zeros(len(x), 3) if mean is None else mean
    posterior = GaussianPosterior(mean, torch.zeros_like(mean) if logvar is None else logvar)
    likelihood = GaussianLikelihood(x if y is None else y, x.new_zeros(()))
    # As of a codebook with a single entry at the origin.
    terms = {name: mean.square().flatten(1).sum(1) for name in ("commitment", "codebook")}
    return LossInputs(x, labels, Output(posterior, mean, likelihood, terms, logits), moment)


@pytest.fixture
def passed() -> Passed:
    """Makes a pass in which images `x` became `y`."""
    return _passed


class Drawn(Protocol):
    def __call__(self, *shape: int, word: str = "x", low: float = 0.05, high: float = 0.95) -> Tensor: ...


@pytest.fixture
def drawn() -> Drawn:
    """Draws values in float64, between `low` and `high`; other words give other values."""

    def draw(*shape: int, word: str = "x", low: float = 0.05, high: float = 0.95) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=torch_generator(0, word), dtype=torch.float64)

    return draw
