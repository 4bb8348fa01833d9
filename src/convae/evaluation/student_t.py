"""Confidence intervals by Student's t, for means of few values."""

from __future__ import annotations

import math

from jaxtyping import Float64
from torch import Tensor

from convae.evaluation.bootstrap import LEVEL


def student_quantile(freedom: int, level: float = LEVEL) -> float:
    """The upper end of the central interval of Student's t at a confidence level: 1.96 for many degrees of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + level) / 2))


def student_interval(values: Float64[Tensor, " value"]) -> tuple[float, float] | None:
    """The 95% interval of the mean of independent values that are nearly normal; None for a single value.

    Percentiles of the bootstrap are too narrow for few values: those of two cover the mean every other time.
    """
    count = len(values)
    if count < 2:
        return None
    mean, margin = float(values.mean()), student_quantile(count - 1) * float(values.std()) / math.sqrt(count)
    return mean - margin, mean + margin
