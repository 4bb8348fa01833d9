"""The objective: named terms, each with a weight, and the sum that training minimises."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from convae.core.arguments import arguments
from convae.core.errors import ConfigError
from convae.core.types import Images, OutputLike
from convae.objective.schedules.base import Moment, Schedule, schedule
from convae.objective.terms import TERMS
from convae.objective.terms.base import Term


@dataclass(frozen=True)
class Losses:
    """What a batch costs.

    Attributes:
        total: weighted sum of the terms' means over the batch, a scalar, nats per image.
        terms: each term of each image, (batch,), in the term's own unit, without its weight.
    """

    total: Tensor
    terms: dict[str, Tensor]


class Objective(nn.Module):
    """The weighted sum of named terms.

    Args:
        terms: the terms by name.
        weights: a schedule for each name.
    """

    def __init__(self, terms: Mapping[str, Term], weights: Mapping[str, Schedule]) -> None:
        super().__init__()
        self.terms = nn.ModuleDict(terms)
        self.schedules = dict(weights)

    @property
    def units(self) -> dict[str, str]:
        """The unit of each term's figure."""
        return {name: term.unit for name, term in self.terms.items() if isinstance(term, Term)}

    def weights(self, moment: Moment) -> dict[str, float]:
        """Each term's weight at a moment."""
        return {name: weight(moment) for name, weight in self.schedules.items()}

    def forward(self, x: Images, output: OutputLike, weights: Mapping[str, float]) -> Losses:
        """The cost of a batch under the given weights."""
        terms: dict[str, Tensor] = {name: term(x, output) for name, term in self.terms.items()}
        parts = [terms[name].mean() * weight for name, weight in weights.items()]
        return Losses(torch.stack(parts).sum(), terms)


def objective(written: Mapping[str, Mapping[str, Any]]) -> Objective:
    """The objective that a recipe describes: names of terms, each with a weight and the term's own arguments.

    A weight is a number or a schedule; without one it is 1.

    Raises:
        ConfigError: no terms, an unknown term, or wrong arguments.
    """
    if not written:
        raise ConfigError("objective: needs at least one term")
    terms: dict[str, Term] = {}
    weights: dict[str, Schedule] = {}
    for name, given in written.items():
        where = f"objective.{name}"
        options = dict(given)
        weights[name] = schedule(options.pop("weight", 1.0), f"{where}.weight")
        target = TERMS.get(name)
        terms[name] = target(**arguments(target, options, where))
    return Objective(terms, weights)
