"""What a stage changes over time: the weights of its objective, each on its own clock, and the learning rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Protocol, runtime_checkable

from torch import nn

from convae.core.output import Output
from convae.core.types import Batch
from convae.objective.objective import Losses, Objective
from convae.objective.schedules.base import Clocks
from convae.objective.terms.base import Term


@runtime_checkable
class Goal(Protocol):
    """What the trainer knows of the loss of a stage: its terms, and how they add up."""

    @property
    def units(self) -> dict[str, str]:
        """The unit of each term."""

    def weights(self, clocks: Clocks) -> dict[str, float]:
        """Each term's weight."""

    def total(self, metrics: Mapping[str, float], clocks: Clocks) -> float:
        """The weighted sum of the terms."""


@dataclass(frozen=True)
class FixedGoal:
    """Terms that always count as they are, for a task without a recipe.

    Attributes:
        units: the unit of each term.
    """

    units: dict[str, str]

    def weights(self, clocks: Clocks) -> dict[str, float]:
        """1 for each."""
        return dict.fromkeys(self.units, 1.0)

    def total(self, metrics: Mapping[str, float], clocks: Clocks) -> float:
        """The sum of the terms."""
        return sum(metrics[name] for name in self.units)


class StageObjective(nn.Module):
    """The sum of two objectives.

    Args:
        shared: the recipe's terms that the stage does not name, on the training's clock; None where it names all.
        own: the terms that the stage names, on its own clock; None where it names none.
    """

    def __init__(self, shared: Objective | None, own: Objective | None) -> None:
        super().__init__()
        self.shared = shared
        self.own = own

    @property
    def units(self) -> dict[str, str]:
        """The unit of each term's figure."""
        return {name: unit for part in (self.shared, self.own) if part for name, unit in part.units.items()}

    @property
    def adversarial(self) -> dict[str, Term]:
        """The terms with a module that trains against the model."""
        terms = {name: term for part in (self.shared, self.own) if part for name, term in part.terms.items()}
        return {name: term for name, term in terms.items() if term.critic is not None}

    def weights(self, clocks: Clocks) -> dict[str, float]:
        """Each term's weight."""
        shared = self.shared.weights(clocks.training) if self.shared else {}
        return shared | (self.own.weights(clocks.stage) if self.own else {})

    def total(self, metrics: Mapping[str, float], clocks: Clocks) -> float:
        """The weighted sum of the terms' means, nats per image."""
        return sum(metrics[name] * weight for name, weight in self.weights(clocks).items())

    def forward(self, batch: Batch, output: Output, clocks: Clocks) -> Losses:
        """The cost of a batch that the model turned into `output`; see `Objective`."""
        parts = ((self.shared, clocks.training), (self.own, clocks.stage))
        losses: list[Losses] = [part(batch, output, moment) for part, moment in parts if part]
        return reduce(lambda one, other: Losses(one.total + other.total, one.terms | other.terms), losses)
