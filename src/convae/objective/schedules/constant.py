"""Constant schedule."""

from __future__ import annotations

from convae.objective.schedules.base import Finite, Moment, Schedule


class Constant(Schedule):
    """A constant value at every step.

    Args:
        value: the value.
    """

    def __init__(self, *, value: Finite = 1.0) -> None:
        self.value = value

    def __call__(self, moment: Moment) -> float:
        """The value."""
        return self.value
