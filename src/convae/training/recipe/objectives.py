"""The objectives of a recipe: the default, which depends on the latents of the model, and those of stages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, Protocol, runtime_checkable

from torch import nn

from convae.core.context import LatentModule
from convae.core.errors import ConvaeError
from convae.core.output import Output
from convae.core.types import Batch, Shape
from convae.describe import resolve
from convae.model.construct import construct_latents
from convae.model.parts import required_terms
from convae.objective.objective import Losses, Objective
from convae.objective.schedules.base import Clocks
from convae.objective.terms import TERMS
from convae.objective.terms.base import Term

Terms = dict[str, dict[str, Any]]
"""The arguments of each term by its name, with `weight` among them."""
_SIZE = 64
"""Image size for which a description without an input is built."""


def default_objective(parts: Iterable[nn.Module]) -> Terms:
    """The objective of a model: reconstruction, `kl` for latents with a density, and required terms.

    Args:
        parts: a model, or those of its parts that have latents or quantizers.
    """
    modules = nn.ModuleList(parts)
    latents = [module for module in modules.modules() if isinstance(module, LatentModule)]
    has_kl = not latents or not all(module.is_discrete or not module.has_density for module in latents)
    terms: Terms = {"reconstruction": {}, **({"kl": {}} if has_kl else {})}
    return terms | {name: {"weight": usual_weight(name)} for name in required_terms(modules) if name not in terms}


def described_objective(model: Mapping[str, Any], data: Any) -> Terms:
    """The objective of a described model, before its images are known; that of Gaussian latents if it has faults.

    Args:
        model: the model of a recipe.
        data: the data of a recipe, for the size of its images.
    """
    known = data if isinstance(data, Mapping) else {}
    size = known.get("size") or _SIZE
    try:
        if not {"input", "preset", "encode"} & set(model):
            model = {**model, "input": [known.get("channels") or 3, *([size] * 2 if isinstance(size, int) else size)]}
        return default_objective(construct_latents(resolve(model)))
    except (ConvaeError, TypeError):
        return default_objective([])


def usual_weight(term: str) -> float:
    """The weight of a required term in the default objective."""
    weight: float = TERMS.get(term).usual_weight
    return weight


@runtime_checkable
class Goal(Protocol):
    """Units, weights and total of the loss of a stage."""

    @property
    def units(self) -> dict[str, str]:
        """The unit of each term."""

    def weights(self, clocks: Clocks) -> dict[str, float]:
        """Each term's weight."""

    def total(self, metrics: Mapping[str, float], clocks: Clocks) -> float:
        """The weighted sum of the terms."""


@dataclass(frozen=True)
class FixedGoal:
    """Terms with the constant weight 1, for a task without a recipe.

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
    """The sum of two objectives with different clocks.

    Args:
        shared: terms of the recipe, on the clock of the training; None if the stage changes all of them.
        own: terms that the stage changes, on its own clock; None without changes.
    """

    def __init__(self, shared: Objective | None, own: Objective | None) -> None:
        super().__init__()
        self.shared = shared
        self.own = own

    @property
    def units(self) -> dict[str, str]:
        """The unit of each term."""
        return {name: unit for part in (self.shared, self.own) if part for name, unit in part.units.items()}

    @property
    def samples(self) -> int:
        """Number of latents that the model draws for each image."""
        return max(part.samples for part in (self.shared, self.own) if part)

    def bind(self, latent_shape: Shape, image_shape: Shape) -> None:
        """Prepares the terms for a model; see `Objective.bind`."""
        for part in (self.shared, self.own):
            if part:
                part.bind(latent_shape, image_shape)

    @property
    def adversarial(self) -> dict[str, Term]:
        """The terms with a critic."""
        terms = {name: term for part in (self.shared, self.own) if part for name, term in part.terms.items()}
        return {name: term for name, term in terms.items() if term.critic is not None}

    def weights(self, clocks: Clocks) -> dict[str, float]:
        """Each term's weight."""
        shared = self.shared.weights(clocks.training) if self.shared else {}
        return shared | (self.own.weights(clocks.stage) if self.own else {})

    def total(self, metrics: Mapping[str, float], clocks: Clocks) -> float:
        """The weighted sum of the means of the terms, nats per image."""
        return sum(metrics[name] * weight for name, weight in self.weights(clocks).items())

    def forward(self, batch: Batch, output: Output, clocks: Clocks) -> Losses:
        """The loss of a batch; see `Objective`."""
        parts = ((self.shared, clocks.training), (self.own, clocks.stage))
        losses: list[Losses] = [part(batch, output, moment) for part, moment in parts if part]
        return reduce(lambda one, other: Losses(one.total + other.total, one.terms | other.terms), losses)
