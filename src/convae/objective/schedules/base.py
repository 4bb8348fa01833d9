"""Schedule interface: a value as a function of training progress."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import Field

from convae.core.arguments import parse_arguments, split_name
from convae.core.errors import ConfigError
from convae.core.names import short_repr
from convae.objective.schedules import SCHEDULES

T = TypeVar("T")
Unit = Literal["step", "epoch", "fraction"]
ROUNDING = 1e-9
"""Tolerance for rounding: ten times 0.1 is 1."""
Finite = Annotated[float, Field(allow_inf_nan=False)]
Begin = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""A point in training, in epochs, steps, or as a fraction of the training."""
Part = Annotated[float, Field(gt=0, le=1)]
"""A length as a fraction of the training."""
Written = Any
"""A schedule in a recipe: a number, a name, or a name with arguments; see `build_schedule`."""


@dataclass(frozen=True)
class Moment:
    """Progress of training before a step.

    Attributes:
        step: completed steps.
        epoch: completed epochs, fractional.
        fraction: completed fraction of the training, in [0, 1].
    """

    step: int
    epoch: float
    fraction: float

    def read(self, unit: Unit) -> float:
        """Progress in a unit."""
        return {"step": self.step, "epoch": self.epoch, "fraction": self.fraction}[unit]

    def since(self, begin: float, end: float | None, unit: Unit) -> Moment:
        """The progress within a part of the training, from `begin` to `end`.

        Args:
            begin: start of the part, not later than this moment.
            end: end of the part; None for the end of training.
            unit: unit of `begin` and `end`; the others are proportional.
        """
        now = self.read(unit)
        before = begin / now if now > 0 else 0.0
        steps = self.step - begin if unit == "step" else self.step * (1 - before)
        epochs = self.epoch - begin if unit == "epoch" else self.epoch * (1 - before)
        if end is not None:
            fraction = (now - begin) / (end - begin)
        else:
            fraction = (
                self.fraction * (1 - before) / (1 - self.fraction * before) if self.fraction * before < 1 else 1.0
            )
        return Moment(round(steps), epochs, min(1.0, max(0.0, fraction)))


@dataclass(frozen=True)
class Clocks:
    """The moment before a step, as each part of a recipe counts it.

    Attributes:
        training: since the beginning of the training: for the terms of the recipe.
        stage: since the beginning of the stage: for the terms that the stage names.
        optimizer: since the beginning of the stage that brought the optimizer: for the learning rate.
        optimizer_steps: steps that the optimizer lasts for.
    """

    training: Moment
    stage: Moment
    optimizer: Moment
    optimizer_steps: int


class Schedule(ABC):
    """A value as a pure function of training progress. Configuration is keyword-only.

    Used for weights, learning rates, temperatures and the strength of augmentation.
    """

    example: ClassVar[Mapping[str, Any]] = {}

    @abstractmethod
    def __call__(self, moment: Moment) -> float:
        """The value at a moment."""


class Span:
    """An interval of training, and the completed fraction of it.

    Args:
        epochs: length in epochs; without it, `steps` and `fraction`, to the end of training.
        steps: length in steps.
        fraction: length as a fraction of the training.
        after: start, in the unit of the length; a fraction for an interval to the end.

    Raises:
        ConfigError: more than one length, or the interval does not fit in the training.
    """

    def __init__(
        self,
        *,
        epochs: float | None = None,
        steps: float | None = None,
        fraction: float | None = None,
        after: float = 0.0,
    ) -> None:
        chosen = one_unit(epochs=epochs, steps=steps, fraction=fraction)
        self.unit: Unit = chosen[0] if chosen else "fraction"
        length = chosen[1] if chosen else 1 - after
        if self.unit == "fraction" and (length <= 0 or after + length > 1 + ROUNDING):
            raise ConfigError(f"after ({after:g}) and fraction must be fractions with a sum of at most 1")
        self.begin = after
        self.length = length

    def __call__(self, moment: Moment) -> float:
        """The completed fraction of the interval, in [0, 1]."""
        return min(1.0, max(0.0, (moment.read(self.unit) - self.begin) / self.length))


def one_unit(**given: T | None) -> tuple[Unit, T] | None:
    """The unit and the value of the given one of `epochs`, `steps` and `fraction`; None if none is given.

    Raises:
        ConfigError: more than one is given.
    """
    units: dict[str, Unit] = {"epochs": "epoch", "steps": "step", "fraction": "fraction"}
    chosen = [(units[name], value) for name, value in given.items() if value is not None]
    if len(chosen) > 1:
        raise ConfigError(f"got several of {', '.join(given)}. Use one of them")
    return chosen[0] if chosen else None


def parse_start_times(**given: Mapping[float, T] | None) -> tuple[Unit, list[tuple[float, T]]]:
    """The unit of the given mapping by `epochs`, `steps` or `fraction`, and its items in order of time.

    Raises:
        ConfigError: none or several are given, or the mapping is empty.
    """
    chosen = one_unit(**given)
    if chosen is None or not chosen[1]:
        raise ConfigError(f"expected one of {', '.join(given)}: a mapping from start times to values")
    unit, written = chosen
    return unit, sorted(written.items(), key=lambda item: item[0])


def count_periods(done: float, length: float) -> int:
    """Number of completed periods of `length`, up to rounding."""
    return math.floor(done / length + ROUNDING)


def interpolate(start: float, end: float, fraction: float) -> float:
    """Linear interpolation from `start` (fraction 0) to `end` (fraction 1), exact at both ends."""
    return start * (1 - fraction) + end * fraction


def build_schedule(written: Written, where: str) -> Schedule:
    """Builds the schedule of a number, a name, or a mapping of a name to its arguments.

    Raises:
        ConfigError: none of these, an unknown name, or wrong arguments.
    """
    if isinstance(written, int | float) and not isinstance(written, bool):
        written = {"constant": {"value": float(written)}}
    if not isinstance(written, str | dict) or not all(isinstance(key, str) for key in written):
        raise ConfigError(
            f"{where}: needs a number, or a schedule such as cosine or {{staircase: {{epochs: {{0: 0, 10: 1}}}}}}, "
            f"got {short_repr(written)}"
        )
    name, given = split_name(written, where)
    try:
        target = SCHEDULES.get(name)
    except ConfigError as error:
        raise type(error)(f"{where}: {error}") from error
    place = f"{where}.{name}"
    checked = parse_arguments(target, given, place)
    try:
        made: Schedule = target(**checked)
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from error
    return made
