"""Sequence of schedules."""

from __future__ import annotations

from bisect import bisect_right
from typing import ClassVar

from convae.core.errors import ConfigError
from convae.objective.schedules.base import Begin, Moment, Schedule, Written, build_schedule, parse_start_times


class Sequence(Schedule):
    """Schedules that start at given times: `{epochs: {0: 0, 500: linear, 600: 1}}`.

    The clock of each starts with it; one without a length lasts until the next starts.

    Args:
        epochs: schedules by the epoch at which they start; exactly one of it, `steps` and `fraction` is needed.
        steps: schedules by the step at which they start.
        fraction: schedules by the fraction of the training at which they start.
    """

    example: ClassVar = {"epochs": {0: 0.0, 5: "linear", 10: 1.0}}

    def __init__(
        self,
        *,
        epochs: dict[Begin, Written] | None = None,
        steps: dict[Begin, Written] | None = None,
        fraction: dict[Begin, Written] | None = None,
    ) -> None:
        self.unit, parts = parse_start_times(epochs=epochs, steps=steps, fraction=fraction)
        self.times = [time for time, _ in parts]
        if self.times[0] != 0:
            raise ConfigError(f"the first schedule starts at {self.times[0]:g}. Add one that starts at 0")
        self.parts = [build_schedule(written, f"from {time:g}") for time, written in parts]

    def __call__(self, moment: Moment) -> float:
        """The value of the current schedule."""
        last = bisect_right(self.times, moment.read(self.unit)) - 1
        end = self.times[last + 1] if last + 1 < len(self.times) else None
        return self.parts[last](moment.since(self.times[last], end, self.unit))
