"""Half a cosine wave from one value to another."""

from __future__ import annotations

import math

from convae.objective.schedules.base import Moment, Schedule


class Cosine(Schedule):
    """Half a cosine wave over the whole training (Loshchilov & Hutter 2017, arXiv:1608.03983).

    Args:
        start: value at the beginning.
        end: value at the end.
    """

    def __init__(self, *, start: float = 1.0, end: float = 0.0) -> None:
        self.start = start
        self.end = end

    def __call__(self, moment: Moment) -> float:
        """`start` at share 0, `end` at share 1, slowest at both."""
        return self.end + (self.start - self.end) * 0.5 * (1 + math.cos(math.pi * moment.share))
