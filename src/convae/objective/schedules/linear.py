"""A straight line from one value to another."""

from __future__ import annotations

from typing import ClassVar

from convae.core.arguments import PositiveFloat
from convae.core.errors import ConfigError
from convae.objective.schedules.base import Moment, Schedule


class Linear(Schedule):
    """A straight line, held at its end: the usual warm-up of a KL weight (Bowman et al. 2016, arXiv:1511.06349).

    Args:
        start: value until `after`.
        end: value when the line is over.
        epochs: length of the line in epochs; without it and `steps`, the whole training.
        steps: length of the line in steps.
        after: epochs, or steps if the length is in steps, before the line begins.
    """

    example: ClassVar = {"epochs": 10}

    def __init__(
        self,
        *,
        start: float = 0.0,
        end: float = 1.0,
        epochs: PositiveFloat | None = None,
        steps: PositiveFloat | None = None,
        after: float = 0.0,
    ) -> None:
        if epochs is not None and steps is not None:
            raise ConfigError("schedule linear: give its length in epochs or in steps, not both")
        self.start = start
        self.end = end
        self.epochs = epochs
        self.steps = steps
        self.after = after

    def __call__(self, moment: Moment) -> float:
        """The value on the line."""
        if self.steps is not None:
            done = (moment.step - self.after) / self.steps
        elif self.epochs is not None:
            done = (moment.epoch - self.after) / self.epochs
        else:
            done = moment.share
        return self.start + (self.end - self.start) * min(1.0, max(0.0, done))
