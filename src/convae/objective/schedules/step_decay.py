"""Step decay schedule."""

from __future__ import annotations

from typing import ClassVar

from convae.core.arguments import PositiveFloat
from convae.core.errors import ConfigError
from convae.objective.schedules.base import Finite, Moment, Part, Schedule, count_periods, one_unit


class StepDecay(Schedule):
    """Step decay: start · factor^n after n periods.

    Args:
        start: value in the first period.
        factor: factor from one period to the next.
        epochs: period in epochs; exactly one of it, `steps` and `fraction` is needed.
        steps: period in steps.
        fraction: period as a fraction of the training.
    """

    example: ClassVar = {"epochs": 30}

    def __init__(
        self,
        *,
        start: Finite = 1.0,
        factor: PositiveFloat = 0.1,
        epochs: PositiveFloat | None = None,
        steps: PositiveFloat | None = None,
        fraction: Part | None = None,
    ) -> None:
        period = one_unit(epochs=epochs, steps=steps, fraction=fraction)
        if period is None:
            raise ConfigError("the length of a period is missing. Set one of epochs, steps and fraction")
        self.unit, self.period = period
        self.start = start
        self.factor = factor

    def __call__(self, moment: Moment) -> float:
        """The value of the current period."""
        return float(self.start * self.factor ** count_periods(moment.read(self.unit), self.period))
