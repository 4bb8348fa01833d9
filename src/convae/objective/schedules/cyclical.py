"""Cyclical schedule."""

from __future__ import annotations

from convae.core.arguments import Positive, PositiveFloat
from convae.objective.schedules.base import Moment, Part, Schedule, Span, Written, build_schedule, count_periods

RISE: Written = {"linear": {"fraction": 0.5}}
"""From 0 to 1 over the first half of a cycle."""


class Cyclical(Schedule):
    """Repeats a schedule, constant after the last cycle.

    The default is cyclical annealing of the KL weight (Fu et al. 2019, arXiv:1903.10145): in each of four cycles the
    weight rises from 0 to 1 over the first half and stays. With a cosine, it is a learning rate with warm restarts
    (Loshchilov & Hutter 2017, arXiv:1608.03983).

    Args:
        of: the schedule of one cycle.
        cycles: number of cycles.
        epochs: total length in epochs; without it, `steps` and `fraction`, the whole training.
        steps: total length in steps.
        fraction: total length as a fraction of the training.
    """

    def __init__(
        self,
        *,
        of: Written = RISE,
        cycles: Positive = 4,
        epochs: PositiveFloat | None = None,
        steps: PositiveFloat | None = None,
        fraction: Part | None = None,
    ) -> None:
        self.of = build_schedule(of, "of")
        self.cycles = cycles
        self.span = Span(epochs=epochs, steps=steps, fraction=fraction)

    def __call__(self, moment: Moment) -> float:
        """The value in the current cycle."""
        unit, length = self.span.unit, self.span.length / self.cycles
        running = min(self.cycles - 1, count_periods(moment.read(unit), length))
        return self.of(moment.since(running * length, (running + 1) * length, unit))
