"""A value that changes by the same factor in equal times."""

from __future__ import annotations

from typing import ClassVar

from convae.core.arguments import PositiveFloat
from convae.objective.schedules.base import Begin, Moment, Part, Schedule, Span


class Exponential(Schedule):
    """Exponential decay, or growth, held at its end: a straight line on a logarithmic axis.

    Args:
        start: value until it begins.
        end: value when it is over.
        epochs: its length in epochs; without it, `steps` and `share`, the whole training.
        steps: its length in steps.
        share: its length as a share of the training.
        after: where it begins, in the unit of its length; a share where it has none.
    """

    example: ClassVar = {"start": 1.0, "end": 0.01}

    def __init__(
        self,
        *,
        start: PositiveFloat = 1.0,
        end: PositiveFloat = 0.01,
        epochs: PositiveFloat | None = None,
        steps: PositiveFloat | None = None,
        share: Part | None = None,
        after: Begin = 0.0,
    ) -> None:
        self.start = start
        self.end = end
        self.span = Span(epochs=epochs, steps=steps, share=share, after=after)

    def __call__(self, moment: Moment) -> float:
        """start^(1 − s) · end^s at share s of the way."""
        share = self.span(moment)
        return float(self.start ** (1 - share) * self.end**share)
