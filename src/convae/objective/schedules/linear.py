"""A straight line from one value to another."""

from __future__ import annotations

from typing import ClassVar

from convae.core.arguments import PositiveFloat
from convae.objective.schedules.base import Begin, Finite, Moment, Part, Schedule, Span, interpolate


class Linear(Schedule):
    """A straight line, held at its end: the usual warm-up of a KL weight (Bowman et al. 2016, arXiv:1511.06349).

    Args:
        start: value until the line begins.
        end: value when the line is over.
        epochs: length of the line in epochs; without it, `steps` and `share`, the whole training.
        steps: length of the line in steps.
        share: length of the line as a share of the training.
        after: where the line begins, in the unit of its length; a share where it has none.
    """

    example: ClassVar = {"epochs": 10}

    def __init__(
        self,
        *,
        start: Finite = 0.0,
        end: Finite = 1.0,
        epochs: PositiveFloat | None = None,
        steps: PositiveFloat | None = None,
        share: Part | None = None,
        after: Begin = 0.0,
    ) -> None:
        self.start = start
        self.end = end
        self.span = Span(epochs=epochs, steps=steps, share=share, after=after)

    def __call__(self, moment: Moment) -> float:
        """The value on the line."""
        return interpolate(self.start, self.end, self.span(moment))
