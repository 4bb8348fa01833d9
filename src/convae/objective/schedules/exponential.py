"""Exponential schedule."""

from __future__ import annotations

from typing import ClassVar

from convae.core.arguments import PositiveFloat
from convae.objective.schedules.base import Begin, Moment, Part, Schedule, Span


class Exponential(Schedule):
    """Exponential decay or growth from `start` to `end`, constant afterwards.

    Args:
        start: value before and at its start.
        end: value at and after its end.
        epochs: length in epochs; without it, `steps` and `fraction`, the whole training.
        steps: length in steps.
        fraction: length as a fraction of the training.
        after: start, in the unit of the length; a fraction without a length.
    """

    example: ClassVar = {"start": 1.0, "end": 0.01}

    def __init__(
        self,
        *,
        start: PositiveFloat = 1.0,
        end: PositiveFloat = 0.01,
        epochs: PositiveFloat | None = None,
        steps: PositiveFloat | None = None,
        fraction: Part | None = None,
        after: Begin = 0.0,
    ) -> None:
        self.start = start
        self.end = end
        self.span = Span(epochs=epochs, steps=steps, fraction=fraction, after=after)

    def __call__(self, moment: Moment) -> float:
        """start^(1 − s) · end^s at fraction s of the interval."""
        fraction = self.span(moment)
        return float(self.start ** (1 - fraction) * self.end**fraction)
