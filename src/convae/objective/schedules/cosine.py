"""Half a cosine wave from one value to another."""

from __future__ import annotations

import math

from convae.core.arguments import PositiveFloat
from convae.objective.schedules.base import Begin, Finite, Moment, Part, Schedule, Span, interpolate


class Cosine(Schedule):
    """Half a cosine wave, slowest at both ends, held at its end (Loshchilov & Hutter 2017, arXiv:1608.03983).

    Args:
        start: value until the wave begins.
        end: value when the wave is over.
        epochs: length of the wave in epochs; without it, `steps` and `share`, the whole training.
        steps: length of the wave in steps.
        share: length of the wave as a share of the training.
        after: where the wave begins, in the unit of its length; a share where it has none.
    """

    def __init__(
        self,
        *,
        start: Finite = 1.0,
        end: Finite = 0.0,
        epochs: PositiveFloat | None = None,
        steps: PositiveFloat | None = None,
        share: Part | None = None,
        after: Begin = 0.0,
    ) -> None:
        self.start = start
        self.end = end
        self.span = Span(epochs=epochs, steps=steps, share=share, after=after)

    def __call__(self, moment: Moment) -> float:
        """The value on the wave."""
        return interpolate(self.start, self.end, 0.5 - 0.5 * math.cos(math.pi * self.span(moment)))
