"""Confidence intervals by Student's t, for means of few values."""

from __future__ import annotations

import math

from jaxtyping import Float64
from torch import Tensor

from convae.evaluation.bootstrap import LEVEL

BISECTIONS = 60


def student_quantile(freedom: int, level: float = LEVEL) -> float:
    """The upper end of the central interval of Student's t at a confidence level: 1.96 for many degrees of freedom.

    With t = √ν tan θ, the density of θ is proportional to cos^(ν − 1) θ.
    """
    power, (low, high) = freedom - 1, (0.0, math.pi / 2)
    wanted = level * _integral(high, power)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if _integral(middle, power) < wanted else (low, middle)
    return math.sqrt(freedom) * math.tan(low)


def _integral(angle: float, power: int) -> float:
    """The integral of cos^power from 0 to an angle, by the recursion for two powers less."""
    found = math.sin(angle) if power % 2 else angle
    for each in range(2 + power % 2, power + 1, 2):
        found = (math.cos(angle) ** (each - 1) * math.sin(angle) + (each - 1) * found) / each
    return found


def student_interval(values: Float64[Tensor, " value"]) -> tuple[float, float] | None:
    """The 95% interval of the mean of independent values that are nearly normal; None for a single value.

    Percentiles of the bootstrap are too narrow for few values: those of two cover the mean every other time.
    """
    count = len(values)
    if count < 2:
        return None
    mean, margin = float(values.mean()), student_quantile(count - 1) * float(values.std()) / math.sqrt(count)
    return mean - margin, mean + margin
