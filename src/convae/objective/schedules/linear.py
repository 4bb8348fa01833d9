"""Linear schedule."""

from __future__ import annotations

from typing import ClassVar

from convae.core.arguments import PositiveFloat
from convae.objective.schedules.base import Begin, Finite, Moment, Part, Schedule, Span, interpolate


class Linear(Schedule):
    """Linear from `start` to `end`, constant afterwards: the usual KL warm-up (Bowman et al. 2016, arXiv:1511.06349).

    Args:
        start: value before and at its start.
        end: value at and after its end.
        epochs: length in epochs; without it, `steps` and `fraction`, the whole training.
        steps: length in steps.
        fraction: length as a fraction of the training.
        after: start, in the unit of the length; a fraction without a length.
    """

    example: ClassVar = {"epochs": 10}

    def __init__(
        self,
        *,
        start: Finite = 0.0,
        end: Finite = 1.0,
        epochs: PositiveFloat | None = None,
        steps: PositiveFloat | None = None,
        fraction: Part | None = None,
        after: Begin = 0.0,
    ) -> None:
        self.start = start
        self.end = end
        self.span = Span(epochs=epochs, steps=steps, fraction=fraction, after=after)

    def __call__(self, moment: Moment) -> float:
        """The value at a moment."""
        return interpolate(self.start, self.end, self.span(moment))
