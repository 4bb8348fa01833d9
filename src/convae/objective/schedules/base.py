"""What a schedule is: a value for each moment of training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from convae.core.arguments import Named, arguments, named
from convae.core.errors import ConfigError
from convae.objective.schedules import SCHEDULES


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


class Schedule(ABC):
    """A value that is a pure function of the moment. Configuration is keyword-only."""

    example: ClassVar[Mapping[str, Any]] = {}

    @abstractmethod
    def __call__(self, moment: Moment) -> float:
        """The value at a moment."""


def schedule(written: float | Named, where: str) -> Schedule:
    """The schedule that a number, a name, or a mapping of a name to its arguments describes.

    Raises:
        ConfigError: unknown name or wrong arguments.
    """
    if isinstance(written, int | float):
        written = {"constant": {"value": float(written)}}
    name, given = named(written, where)
    try:
        target = SCHEDULES.get(name)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    made: Schedule = target(**arguments(target, given, where))
    return made
