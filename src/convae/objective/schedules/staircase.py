"""Piecewise constant schedule."""

from __future__ import annotations

from bisect import bisect_right
from typing import ClassVar

from convae.core.errors import ConfigError
from convae.objective.schedules.base import Begin, Finite, Moment, Schedule, parse_start_times


class Staircase(Schedule):
    """Piecewise constant values: `{epochs: {500: 0, 600: 1, 800: 2}}`.

    The first value also holds before its time, unless `start` is given.

    Args:
        epochs: values by the epoch at which they start; exactly one of it, `steps` and `fraction` is needed.
        steps: values by the step at which they start.
        fraction: values by the fraction of the training at which they start.
        start: value before the first of those times.
    """

    example: ClassVar = {"epochs": {0: 0.0, 5: 1.0}}

    def __init__(
        self,
        *,
        epochs: dict[Begin, Finite] | None = None,
        steps: dict[Begin, Finite] | None = None,
        fraction: dict[Begin, Finite] | None = None,
        start: Finite | None = None,
    ) -> None:
        self.unit, stairs = parse_start_times(epochs=epochs, steps=steps, fraction=fraction)
        if start is None and len(stairs) == 1:
            raise ConfigError("is constant with one value. Add another, or start")
        self.times = [time for time, _ in stairs]
        values = [value for _, value in stairs]
        self.values = [values[0] if start is None else start, *values]

    def __call__(self, moment: Moment) -> float:
        """The current value."""
        return self.values[bisect_right(self.times, moment.read(self.unit))]
