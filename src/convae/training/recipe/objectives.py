"""Objectives of a recipe: the default for a model, and the loss of each stage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from convae.core.context import LatentModule
from convae.core.errors import ConvaeError
from convae.core.output import Output
from convae.core.types import Batch, Shape
from convae.describe import resolve
from convae.model.construct import construct_latents
from convae.model.parts import required_terms
from convae.model.vae import VAE
from convae.objective.objective import Losses, Objective
from convae.objective.schedules.base import Clocks
from convae.objective.terms import TERMS
from convae.objective.terms.base import Critic

Terms = dict[str, dict[str, Any]]
"""Terms by name, each with its `weight` and other arguments."""
_SIZE = 64
"""Image size to build a model with if neither the description nor the data states one."""


def default_objective(parts: Iterable[nn.Module]) -> Terms:
    """The default objective of a model: `reconstruction`, `kl` for latents with a density, and required terms.

    Args:
        parts: a model, or its parts with latents or quantizers.
    """
    modules = nn.ModuleList(parts)
    latents = [module for module in modules.modules() if isinstance(module, LatentModule)]
    has_kl = not latents or not all(module.is_discrete or not module.has_density for module in latents)
    terms: Terms = {"reconstruction": {}, **({"kl": {}} if has_kl else {})}
    return terms | {
        name: {"weight": TERMS.get(name).default_weight} for name in required_terms(modules) if name not in terms
    }


def default_objective_of(model: Mapping[str, Any], data: Any) -> Terms:
    """The default objective of a model description; that of Gaussian latents if the description is invalid.

    Args:
        model: the key `model` of a recipe.
        data: the key `data` of a recipe, for the size of images.
    """
    config = data if isinstance(data, Mapping) else {}
    size = config.get("size") or _SIZE
    try:
        if not {"input", "preset", "encode"} & set(model):
            model = {**model, "input": [config.get("channels") or 3, *([size] * 2 if isinstance(size, int) else size)]}
        return default_objective(construct_latents(resolve(model)))
    except (ConvaeError, TypeError):
        return default_objective([])


@runtime_checkable
class StageLoss(Protocol):
    """Terms of the loss of a stage, with units and weights."""

    @property
    def units(self) -> dict[str, str]:
        """The unit of each term."""

    def weights(self, clocks: Clocks) -> dict[str, float]:
        """The weight of each term."""

    def total(self, metrics: Mapping[str, float], clocks: Clocks) -> float:
        """The weighted sum of the terms."""


@dataclass(frozen=True)
class UnweightedLoss:
    """A loss with constant weights of 1, for tasks without a recipe.

    Attributes:
        units: unit of each term.
    """

    units: dict[str, str]

    def weights(self, clocks: Clocks) -> dict[str, float]:
        """A weight of 1 for each term."""
        return dict.fromkeys(self.units, 1.0)

    def total(self, metrics: Mapping[str, float], clocks: Clocks) -> float:
        """The sum of the terms."""
        return sum(metrics[name] for name in self.units)


class StageObjective(nn.Module):
    """The objective of a stage: the terms of the recipe, and those that the stage changes, on different clocks.

    Args:
        shared: terms of the recipe, on the clock of the training; None if the stage changes all of them.
        own: terms that the stage changes, on the clock of the stage; None without changes.
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
        """Number of latents to draw per image."""
        return max(part.samples for part in (self.shared, self.own) if part)

    def bind(self, latent_shape: Shape, image_shape: Shape) -> None:
        """Prepares the terms for a model; see `Objective.bind`."""
        for part in (self.shared, self.own):
            if part:
                part.bind(latent_shape, image_shape)

    @property
    def needs_teacher(self) -> bool:
        """Whether a term compares the model with a trained one."""
        return any(part.needs_teacher for part in (self.shared, self.own) if part)

    def bind_teacher(self, teacher: VAE) -> None:
        """Gives terms of distillation the trained model; see `Objective.bind_teacher`."""
        for part in (self.shared, self.own):
            if part:
                part.bind_teacher(teacher)

    @property
    def critics(self) -> dict[str, Critic]:
        """The networks that train against the model, by the names of their terms."""
        terms = {name: term for part in (self.shared, self.own) if part for name, term in part.terms.items()}
        return {name: term.critic for name, term in terms.items() if term.critic is not None}

    def weights(self, clocks: Clocks) -> dict[str, float]:
        """The weight of each term."""
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

    def measure(self, batch: Batch, output: Output, clocks: Clocks) -> dict[str, Tensor]:
        """Metrics beside the terms, (batch,) each; see `Objective.measure`."""
        parts = ((self.shared, clocks.training), (self.own, clocks.stage))
        found = [part.measure(batch, output, moment) for part, moment in parts if part]
        return {name: value for each in found for name, value in each.items()}
