"""What a schedule is: a value for each moment of training."""

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
Unit = Literal["step", "epoch", "share"]
ROUNDING = 1e-9
"""What floats may lack: tenths of a training are ten tenths."""
Finite = Annotated[float, Field(allow_inf_nan=False)]
Begin = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""A moment, in epochs, steps, or share of the training."""
Part = Annotated[float, Field(gt=0, le=1)]
"""A length as a share of the training."""
Written = Any
"""A schedule as a person writes it: a number, a name, or a name with its arguments; `schedule` checks it."""


@dataclass(frozen=True)
class Moment:
    """Where training is, before a step.

    Attributes:
        step: steps done.
        epoch: epochs done, with the fraction of the running one.
        share: share of the whole training done, in [0, 1].
    """

    step: int
    epoch: float
    share: float

    def read(self, unit: Unit) -> float:
        """How much of training is done."""
        return {"step": self.step, "epoch": self.epoch, "share": self.share}[unit]

    def since(self, begin: float, end: float | None, unit: Unit) -> Moment:
        """The moment as a part of the training sees it, whose clock starts at `begin` and whose share ends at `end`.

        Args:
            begin: not later than this moment.
            end: where the part ends; None for a part that lasts to the end of training.
            unit: of `begin` and `end`. Steps, epochs and shares pass evenly, so one gives the others.
        """
        now = self.read(unit)
        before = begin / now if now > 0 else 0.0
        steps = self.step - begin if unit == "step" else self.step * (1 - before)
        epochs = self.epoch - begin if unit == "epoch" else self.epoch * (1 - before)
        if end is not None:
            share = (now - begin) / (end - begin)
        else:
            share = self.share * (1 - before) / (1 - self.share * before) if self.share * before < 1 else 1.0
        return Moment(round(steps), epochs, min(1.0, max(0.0, share)))


class Schedule(ABC):
    """A value that is a pure function of the moment. Configuration is keyword-only.

    It serves whatever changes with training: weights, learning rates, temperatures, the strength of augmentation.
    """

    example: ClassVar[Mapping[str, Any]] = {}

    @abstractmethod
    def __call__(self, moment: Moment) -> float:
        """The value at a moment."""


class Span:
    """A stretch of training, and how much of it is done.

    Args:
        epochs: its length in epochs; without it, `steps` and `share`, it lasts to the end of training.
        steps: its length in steps.
        share: its length as a share of the training.
        after: where it begins: in the unit of its length, a share for one that lasts to the end.

    Raises:
        ConfigError: more than one length, or one that training does not hold.
    """

    def __init__(
        self, *, epochs: float | None = None, steps: float | None = None, share: float | None = None, after: float = 0.0
    ) -> None:
        chosen = one_unit(epochs=epochs, steps=steps, share=share)
        self.unit: Unit = chosen[0] if chosen else "share"
        length = chosen[1] if chosen else 1 - after
        if self.unit == "share" and (length <= 0 or after + length > 1 + ROUNDING):
            raise ConfigError(f"needs its beginning ({after:g}) and its length as shares that end within the training")
        self.begin = after
        self.length = length

    def __call__(self, moment: Moment) -> float:
        """The share of the stretch that is done, in [0, 1]."""
        return min(1.0, max(0.0, (moment.read(self.unit) - self.begin) / self.length))


def one_unit(**given: T | None) -> tuple[Unit, T] | None:
    """The unit and the value of the one argument of `epochs`, `steps` and `share` that is not None.

    Raises:
        ConfigError: more than one is given.
    """
    units: dict[str, Unit] = {"epochs": "epoch", "steps": "step", "share": "share"}
    chosen = [(units[name], value) for name, value in given.items() if value is not None]
    if len(chosen) > 1:
        raise ConfigError(f"give one of {', '.join(given)}, not several")
    return chosen[0] if chosen else None


def parse_start_times(**given: Mapping[float, T] | None) -> tuple[Unit, list[tuple[float, T]]]:
    """The unit of `epochs`, `steps` or `share`, and what starts when, in that order.

    Raises:
        ConfigError: none or several are given, or the one is empty.
    """
    chosen = one_unit(**given)
    if chosen is None or not chosen[1]:
        raise ConfigError(f"needs one of {', '.join(given)}: a mapping of beginnings to what begins there")
    unit, written = chosen
    return unit, sorted(written.items(), key=lambda item: item[0])


def count_periods(done: float, length: float) -> int:
    """How many whole periods of `length` are done; one that lacks but the last digit of a float is whole."""
    return math.floor(done / length + ROUNDING)


def interpolate(start: float, end: float, share: float) -> float:
    """The value on the straight way from `start` (share 0) to `end` (share 1), which it meets exactly."""
    return start * (1 - share) + end * share


def build_schedule(written: Written, where: str) -> Schedule:
    """The schedule that a number, a name, or a mapping of a name to its arguments describes.

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
