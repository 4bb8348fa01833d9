"""A value that jumps at set times."""

from __future__ import annotations

from bisect import bisect_right
from typing import ClassVar

from convae.core.errors import ConfigError
from convae.objective.schedules.base import Begin, Finite, Moment, Schedule, parse_start_times


class Staircase(Schedule):
    """A constant value from each of several times on: `{epochs: {500: 0, 600: 1, 800: 2}}`.

    The first value holds before its time, too, unless `start` says another.

    Args:
        epochs: values by the epoch at which they begin; exactly one of it, `steps` and `share` is needed.
        steps: values by the step at which they begin.
        share: values by the share of the training at which they begin.
        start: value before the first of those times.
    """

    example: ClassVar = {"epochs": {0: 0.0, 5: 1.0}}

    def __init__(
        self,
        *,
        epochs: dict[Begin, Finite] | None = None,
        steps: dict[Begin, Finite] | None = None,
        share: dict[Begin, Finite] | None = None,
        start: Finite | None = None,
    ) -> None:
        self.unit, stairs = parse_start_times(epochs=epochs, steps=steps, share=share)
        if start is None and len(stairs) == 1:
            raise ConfigError("never changes with one stair: give another, or the start before it")
        self.times = [time for time, _ in stairs]
        values = [value for _, value in stairs]
        self.values = [values[0] if start is None else start, *values]

    def __call__(self, moment: Moment) -> float:
        """The value of the last stair that has begun."""
        return self.values[bisect_right(self.times, moment.read(self.unit))]
