"""The objective of a stage: that of the recipe, with the changes of the stage."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import reduce
from typing import Any

from torch import Tensor, nn

from convae.core.errors import ConfigError
from convae.core.output import Output
from convae.core.types import Batch, Shape
from convae.model.vae import VAE
from convae.objective.objective import WEIGHT, Losses, Objective, build_objective
from convae.objective.schedules.base import Clocks, Moment
from convae.objective.terms.base import Critic, Term
from convae.training.recipe.plan import Plan, Stage
from convae.training.recipe.schema import Recipe, StageConfig


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
    def _parts(self) -> list[Objective]:
        return [part for part in (self.shared, self.own) if part is not None]

    def _timed(self, clocks: Clocks) -> list[tuple[Objective, Moment]]:
        """The parts, each with the time on its clock."""
        timed = ((self.shared, clocks.training), (self.own, clocks.stage))
        return [(part, at) for part, at in timed if part is not None]

    @property
    def units(self) -> dict[str, str]:
        """The unit of each term."""
        return {name: unit for part in self._parts for name, unit in part.units.items()}

    @property
    def samples(self) -> int:
        """Number of latents to draw per image."""
        return max(part.samples for part in self._parts)

    def bind(self, latent_shape: Shape, image_shape: Shape) -> None:
        """Prepares the terms for a model; see `Objective.bind`."""
        for part in self._parts:
            part.bind(latent_shape, image_shape)

    @property
    def needs_teacher(self) -> bool:
        """Whether a term compares the model with a trained one."""
        return any(part.needs_teacher for part in self._parts)

    def bind_teacher(self, teacher: VAE) -> None:
        """Gives terms of distillation the trained model; see `Objective.bind_teacher`."""
        for part in self._parts:
            part.bind_teacher(teacher)

    @property
    def critics(self) -> dict[str, Critic]:
        """The networks that train beside the model, by the names of their terms."""
        return {name: critic for part in self._parts for name, critic in part.critics.items()}

    def weights(self, clocks: Clocks) -> dict[str, float]:
        """The weight of each term."""
        return {name: weight for part, at in self._timed(clocks) for name, weight in part.weights(at).items()}

    def total(self, metrics: Mapping[str, float], clocks: Clocks) -> float:
        """The weighted sum of the means of the terms, nats per image."""
        return sum(metrics[name] * weight for name, weight in self.weights(clocks).items())

    def forward(self, batch: Batch, output: Output, clocks: Clocks) -> Losses:
        """The loss of a batch; see `Objective`."""
        critics = self.critics
        losses: list[Losses] = [part(batch, output, at, critics) for part, at in self._timed(clocks)]
        return reduce(lambda one, other: Losses(one.total + other.total, one.terms | other.terms), losses)

    def measure(self, batch: Batch, output: Output, clocks: Clocks) -> dict[str, Tensor]:
        """Metrics beside the terms, (batch,) each; see `Objective.measure`."""
        found = [part.measure(batch, output, at) for part, at in self._timed(clocks)]
        return {name: value for each in found for name, value in each.items()}


def change_objective(
    recipe: Recipe, shared: Objective, written: StageConfig, known: dict[str, Term], where: str
) -> StageObjective:
    """The objective of the recipe with the changes of a stage.

    Stages share the modules of terms that differ in the weight only, so that a discriminator is trained further.

    Args:
        recipe: the recipe.
        shared: its objective.
        written: the stage.
        known: terms of earlier stages by name and arguments; those of this stage are added.
        where: location in the recipe for messages.
    """
    changed = {name: {**recipe.objective.get(name, {}), **given} for name, given in written.objective.items()}
    unchanged = {name: term for name, term in shared.terms.items() if name not in changed}
    try:
        own = build_objective(changed) if changed else None
    except ConfigError as error:
        raise ConfigError(f"{where}.{error}") from error
    if own is not None:
        terms = {name: known.setdefault(term_key(name, changed[name]), term) for name, term in own.terms.items()}
        own = Objective(terms, own.schedules)
    schedules = {name: shared.schedules[name] for name in unchanged}
    return StageObjective(Objective(unchanged, schedules) if unchanged else None, own)


def term_key(name: str, options: Mapping[str, Any]) -> str:
    """Name and arguments of a term, without its weight, as a key."""
    return json.dumps(
        [name, {key: value for key, value in options.items() if key != WEIGHT}], sort_keys=True, default=str
    )


def stage_objective(stage: Stage) -> StageObjective:
    """The objective of a stage of a VAE's training."""
    assert isinstance(stage.objective, StageObjective)
    return stage.objective


def stage_with_most_latents(plan: Plan) -> int:
    """Index of the stage whose objective draws the most latents for each image; of several, the first."""
    counts = [stage_objective(stage).samples for stage in plan.stages]
    return counts.index(max(counts))
