"""The objective: named terms, each with a weight, and the sum that training minimizes.

batch, output, moment ── every term ──> cost of each image ── mean × weight(moment) ──> total
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convae.core.arguments import parse_arguments
from convae.core.errors import ConfigError, ConvaeError
from convae.core.output import Output
from convae.core.types import Batch
from convae.objective.schedules.base import Moment, Schedule, build_schedule
from convae.objective.terms import TERMS
from convae.objective.terms.base import LossInputs, Term

Loader = Callable[[Path], nn.Sequential]
"""From the path of a saved model to the layers of its encoder."""
START = Moment(0, 0.0, 0.0)
"""The beginning of a training."""
WEIGHT = "weight"
"""What a recipe gives every term, beside the term's own arguments."""


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
        self.terms = dict(terms)
        self._modules_of_terms = nn.ModuleList(terms.values())  # no ModuleDict: its keys cannot be dotted paths
        self.schedules = dict(weights)

    @property
    def units(self) -> dict[str, str]:
        """The unit of each term's figure."""
        return {name: term.unit for name, term in self.terms.items()}

    def weights(self, moment: Moment) -> dict[str, float]:
        """Each term's weight at a moment."""
        return {name: weight(moment) for name, weight in self.schedules.items()}

    def forward(self, batch: Batch | Tensor, output: Output, moment: Moment = START) -> Losses:
        """The loss of a batch that the model turned into `output`.

        Args:
            batch: the images, with labels where a term needs them (`Batch.of(images, labels)`); or images alone.
            output: of the model for these images.
            moment: where training is, for weights and arguments that are schedules; their beginning without it.

        Raises:
            ConfigError: the model or the data has not what a term needs; the message names the term.
            ShapeError: the images have not the size that a term needs.
        """
        if isinstance(batch, Tensor):
            batch = Batch.of(batch)
        inputs = LossInputs(batch.images, batch.labels, output, moment, batch.labeled_fraction)
        terms: dict[str, Tensor] = {}
        for name, term in self.terms.items():
            try:
                terms[name] = term(inputs)
            except ConvaeError as error:
                raise type(error)(f"objective.{name}: {error}") from error
        parts = [terms[name].mean() * weight for name, weight in self.weights(moment).items()]
        return Losses(torch.stack(parts).sum(), terms)


def build_objective(written: Mapping[str, Mapping[str, Any] | float], load: Loader | None = None) -> Objective:
    """The objective that a recipe describes: names of terms, each with a weight and the term's own arguments.

    A weight is a number or a schedule; without one it is 1. A weight of 0 only watches the term. In a loop of your own:
    `objective(images, model(images)).total.backward()`.

    Args:
        written: the arguments of each term by its name, with `weight` among them; or just the weight.
        load: gives the layers of a saved model's encoder to the terms that compare with what it sees.

    Raises:
        ConfigError: no terms, an unknown term, or wrong arguments.
    """
    if not written:
        raise ConfigError(f"objective: needs at least one term of {', '.join(TERMS.names())}")
    terms: dict[str, Term] = {}
    weights: dict[str, Schedule] = {}
    faults: list[ConvaeError] = []
    for name, options in written.items():
        given = options if isinstance(options, Mapping) else {WEIGHT: options}
        where = f"objective.{name}"
        try:
            terms[name] = _term(name, given, load, where)
            weights[name] = build_schedule(given.get(WEIGHT, 1.0), f"{where}.{WEIGHT}")
        except ConvaeError as error:
            faults.append(error)
    if faults:
        raise type(faults[0])("; ".join(map(str, faults))) from faults[0]
    return Objective(terms, weights)


def _term(name: str, options: Mapping[str, Any], load: Loader | None, where: str) -> Term:
    """A term from its arguments, its weight among them, with the network that it asks for."""
    try:
        target = TERMS.get(name)
    except ConfigError as error:
        raise type(error)(f"{where}: {error}") from error
    checked = parse_arguments(target, options, where, beside=(WEIGHT,))
    try:
        handed = [] if target.loads is None else [_loaded(checked[target.loads], load)]
        made: Term = target(*handed, **checked)
    except ConvaeError as error:
        raise type(error)(f"{where}: {error}") from error
    return made


def _loaded(path: Path, load: Loader | None) -> nn.Sequential:
    """The layers of a saved model's encoder."""
    if load is None:
        raise ConfigError(f"compares with the saved model {path}, but no model can be loaded here")
    return load(path)
