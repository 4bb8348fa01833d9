"""Sum of schedules."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

from pydantic import Field

from convae.objective.schedules.base import Moment, Schedule, Written, build_schedule


class Sum(Schedule):
    """The sum of several schedules.

    Args:
        of: the summands.
    """

    example: ClassVar = {"of": [{"linear": {"epochs": 10}}, 1.0]}

    def __init__(self, *, of: Annotated[list[Written], Field(min_length=1)]) -> None:
        self.of = [build_schedule(written, f"of.{number}") for number, written in enumerate(of)]

    def __call__(self, moment: Moment) -> float:
        """The sum of their values."""
        return math.fsum(part(moment) for part in self.of)
