"""Product of schedules."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

from pydantic import Field

from convae.objective.schedules.base import Moment, Schedule, Written, build_schedule


class Product(Schedule):
    """The product of several schedules: a warm-up times a decay, or a schedule times a number.

    Args:
        of: the factors.
    """

    example: ClassVar = {"of": [{"linear": {"epochs": 10}}, "cosine"]}

    def __init__(self, *, of: Annotated[list[Written], Field(min_length=1)]) -> None:
        self.of = [build_schedule(written, f"of.{number}") for number, written in enumerate(of)]

    def __call__(self, moment: Moment) -> float:
        """The product of their values."""
        return math.prod(part(moment) for part in self.of)
