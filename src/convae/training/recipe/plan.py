"""The plan of a training: stages, and the weights and learning rate of each step.

    recipe, steps per epoch ──> plan ── step ──> stage, clocks, weights, learning rate

A plan has no state. Since a plateau can end a stage early, methods take the first step of each stage so far as an
argument, and assume the maximum length of the current and later stages.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from convae.core.config import parse
from convae.core.errors import ConfigError
from convae.core.names import unknown_message
from convae.objective.objective import WEIGHT, Objective, build_objective
from convae.objective.schedules.base import Clocks, Moment, Schedule, build_schedule
from convae.objective.terms.base import Term
from convae.training.recipe.objectives import StageLoss, StageObjective, UnweightedLoss
from convae.training.recipe.schema import OptimizerConfig, PlateauConfig, Recipe, StageConfig, TrainingConfig

DEFAULT_EPOCHS = 10
"""Default number of epochs."""
MIN_STEPS = 1000
"""Minimum number of steps of a default length; small data sets take more epochs."""
CHECKED_STEPS = 256
"""Number of steps of a stage at which schedules are checked."""


class LearningRate:
    """The learning rate as a function of the moment: peak × schedule × warm-up.

    Args:
        config: optimizer options.
        where: path in the recipe, for messages.
    """

    def __init__(self, config: OptimizerConfig, where: str) -> None:
        self._peak = config.lr
        self._warmup = config.warmup
        self._schedule = build_schedule(config.schedule, f"{where}.schedule")

    def __call__(self, moment: Moment, steps: int) -> float:
        """The learning rate of the step at `moment`, for an optimizer that is used for `steps` steps."""
        warmup_steps = self._warmup * steps
        # The warm-up starts above zero, so that the first step has an effect.
        factor = min(1.0, (moment.step + 1) / warmup_steps) if warmup_steps > 0 else 1.0
        return self._peak * self._schedule(moment) * factor


@dataclass(frozen=True)
class Stage:
    """A stage of the training.

    Attributes:
        name: name in curves and logs.
        steps: length in steps; the maximum if there is a plateau.
        plateau: early stopping.
        freeze: frozen parts, or patterns of parameter names.
        objective: the loss.
        optimizer: optimizer options.
        learning_rate: learning rate, on the clock of the optimizer.
        has_new_optimizer: whether the stage starts with a new optimizer; otherwise it continues with the previous one.
    """

    name: str
    steps: int
    plateau: PlateauConfig | None
    freeze: tuple[str, ...]
    objective: StageLoss
    optimizer: OptimizerConfig
    learning_rate: LearningRate
    has_new_optimizer: bool


@dataclass(frozen=True)
class Plan:
    """The stages of a training, and schedules of the whole training.

    Attributes:
        stages: at least one, in order; the first has a new optimizer.
        steps_per_epoch: batches per epoch.
        strength: factor on augmentation, on the clock of the training.
        temperature: factor on the standard deviation of posterior samples in training, on the clock of the training.
        weighted: terms with a nonzero weight at some step.
    """

    stages: tuple[Stage, ...]
    steps_per_epoch: int
    strength: Schedule
    temperature: Schedule
    weighted: frozenset[str] = frozenset()

    def stage_starts(self, step: int | None = None) -> list[int]:
        """The first step of each stage up to the one that contains `step`, for maximum lengths; by default of all."""
        starts = list(accumulate((stage.steps for stage in self.stages[:-1]), initial=0))
        return starts if step is None else [start for start in starts if start <= step] or [0]

    def current_stage(self, stage_starts: Sequence[int]) -> Stage:
        """The current stage."""
        return self.stages[len(stage_starts) - 1]

    def stage_end(self, stage_starts: Sequence[int]) -> int:
        """The step after the current stage, for its maximum length."""
        return stage_starts[-1] + self.current_stage(stage_starts).steps

    def total_steps(self, stage_starts: Sequence[int]) -> int:
        """Maximum number of steps of the training."""
        return self.stage_end(stage_starts) + sum(stage.steps for stage in self.stages[len(stage_starts) :])

    def clocks(self, stage_starts: Sequence[int], step: int) -> Clocks:
        """The progress before a step of the current stage, on each clock.

        Args:
            stage_starts: first step of each stage up to the current one.
            step: number of completed steps.
        """
        first = max(number for number in range(len(stage_starts)) if self.stages[number].has_new_optimizer)
        later = self.stages[len(stage_starts) :]
        same = next((number for number, stage in enumerate(later) if stage.has_new_optimizer), len(later))
        optimizer_end = self.stage_end(stage_starts) + sum(stage.steps for stage in later[:same])
        optimizer_steps = optimizer_end - stage_starts[first]
        return Clocks(
            training=self._moment(step, self.total_steps(stage_starts)),
            stage=self._moment(step - stage_starts[-1], self.current_stage(stage_starts).steps),
            optimizer=self._moment(step - stage_starts[first], optimizer_steps),
            optimizer_steps=optimizer_steps,
        )

    def learning_rate(self, stage_starts: Sequence[int], step: int) -> float:
        """The learning rate of a step."""
        clocks = self.clocks(stage_starts, step)
        return self.current_stage(stage_starts).learning_rate(clocks.optimizer, clocks.optimizer_steps)

    def weights(self, stage_starts: Sequence[int], step: int) -> dict[str, float]:
        """The weight of each term at a step."""
        return self.current_stage(stage_starts).objective.weights(self.clocks(stage_starts, step))

    def augmentation_strength(self, epoch: int) -> float:
        """The factor on augmentation in an epoch, for maximum lengths of stages.

        It is constant within an epoch, so that batches are equal after resuming.
        """
        return self.strength(self._moment(epoch * self.steps_per_epoch, self.total_steps(self.stage_starts())))

    def units(self) -> dict[str, str]:
        """The unit of each term of all stages."""
        return {name: unit for stage in self.stages for name, unit in stage.objective.units.items()}

    @property
    def total_unit(self) -> str:
        """The unit of the total: nats, unless no term is in nats."""
        units = list(self.units().values())
        return "nats" if not units or "nats" in units else units[0]

    def _moment(self, step: int, steps: int) -> Moment:
        return Moment(step, step / self.steps_per_epoch, step / steps)


def build_plan(recipe: Recipe, steps_per_epoch: int) -> Plan:
    """Builds the plan of a recipe for a number of batches per epoch.

    Args:
        recipe: the recipe; its model and data are not used.
        steps_per_epoch: batches per epoch.

    Raises:
        ConfigError: invalid terms, schedules, plateau or optimizer.
    """
    shared = build_objective(recipe.objective)
    known = {_arguments(name, recipe.objective[name]): term for name, term in shared.terms.items()}
    options = recipe.training
    stages: list[Stage] = []
    current = options.optimizer
    learning_rate = LearningRate(current, "training.optimizer")
    for number, written in enumerate(_written_stages(recipe)):
        where = f"stages.{number}"
        if written.optimizer is not None:
            current = _optimizer(options.optimizer, written, where)
            learning_rate = LearningRate(current, f"{where}.optimizer")
        objective = _stage_objective(recipe, shared, written, known, where)
        plateau = written.until.plateau if written.until else None
        if plateau and plateau.metric not in (names := ["total", *objective.units]):
            raise ConfigError(f"{where}.until.plateau.metric: {unknown_message('metric', plateau.metric, names)}")
        stages.append(
            Stage(
                name=written.name or f"stage {number + 1}",
                steps=_length(written, steps_per_epoch),
                plateau=plateau,
                freeze=(*options.freeze, *_parts_without_adapters(recipe), *written.freeze),
                objective=objective,
                optimizer=current,
                learning_rate=learning_rate,
                has_new_optimizer=not stages or written.optimizer is not None,
            )
        )
    plan = Plan(
        tuple(stages),
        steps_per_epoch,
        strength=build_schedule(options.augmentation, "training.augmentation"),
        temperature=build_schedule(options.temperature, "training.temperature"),
    )
    return replace(plan, weighted=_check_signs(plan, recipe))


def with_steps(plan: Plan, recipe: Recipe, steps_per_epoch: int) -> Plan:
    """Rebuilds the plan of a recipe for another number of batches per epoch.

    Raises:
        ConfigError: a schedule becomes negative.
    """
    written = _written_stages(recipe)
    stages = [
        replace(stage, steps=_length(each, steps_per_epoch)) for stage, each in zip(plan.stages, written, strict=True)
    ]
    plan = replace(plan, stages=tuple(stages), steps_per_epoch=steps_per_epoch)
    return replace(plan, weighted=_check_signs(plan, recipe))


def _written_stages(recipe: Recipe) -> tuple[StageConfig, ...]:
    """The stages of a recipe; a single one by default."""
    options = recipe.training
    epochs = None if options.steps else options.epochs or DEFAULT_EPOCHS
    return tuple(recipe.stages) or (StageConfig(name="training", steps=options.steps, epochs=epochs),)


def _parts_without_adapters(recipe: Recipe) -> tuple[str, ...]:
    """The networks and the bottleneck, if the recipe has adapters, of other parts."""
    if recipe.adapters is None:
        return ()
    return tuple(part for part in ("encoder", "bottleneck", "decoder") if part not in recipe.adapters.parts)


def _length(written: StageConfig, steps_per_epoch: int) -> int:
    """Length of a stage in steps."""
    return written.steps or (written.epochs or 0) * steps_per_epoch


def default_length(options: TrainingConfig, steps_per_epoch: int) -> TrainingConfig:
    """Sets the default length unless there is one: 10 epochs, or as many as make 1,000 steps.

    Pictures then become rarer in proportion, unless their number is set.
    """
    if options.epochs or options.steps:
        return options
    epochs = max(DEFAULT_EPOCHS, -(-MIN_STEPS // steps_per_epoch))
    changed: dict[str, int] = {"epochs": epochs}
    if "pictures_every" not in options.model_fields_set:
        changed["pictures_every"] = max(1, epochs // DEFAULT_EPOCHS)
    return options.model_copy(update=changed)


def single_stage(
    steps: int, steps_per_epoch: int, *, units: Mapping[str, str], optimizer: OptimizerConfig | None = None
) -> Plan:
    """A plan with one stage, for tasks without a recipe.

    Args:
        steps: length in steps.
        steps_per_epoch: batches per epoch.
        units: unit of each term of the loss; the weights are 1.
        optimizer: optimizer and learning rate.
    """
    settings = optimizer or OptimizerConfig()
    loss, learning_rate = UnweightedLoss(dict(units)), LearningRate(settings, "optimizer")
    stage = Stage("training", steps, None, (), loss, settings, learning_rate, has_new_optimizer=True)
    constant = build_schedule(1.0, "constant")
    return Plan((stage,), steps_per_epoch, strength=constant, temperature=constant)


def _check_signs(plan: Plan, recipe: Recipe) -> frozenset[str]:
    """Checks that no weight, learning rate or other factor becomes negative.

    Returns:
        The terms with a nonzero weight at some step.

    Raises:
        ConfigError: a factor becomes negative; the message names its path in the recipe.
    """
    values: dict[str, list[float]] = {}
    weighted: set[str] = set()
    for number, stage in enumerate(plan.stages):
        starts, written = plan.stage_starts()[: number + 1], recipe.stages[number] if recipe.stages else None
        steps = sorted({starts[-1] + stage.steps * part // CHECKED_STEPS for part in range(CHECKED_STEPS)})
        clocks = [plan.clocks(starts, step) for step in steps]
        optimizer = f"stages.{number}.optimizer" if written and written.optimizer else "training.optimizer"
        rates = [stage.learning_rate(at.optimizer, at.optimizer_steps) for at in clocks]
        values.setdefault(f"{optimizer}.schedule", []).extend(rates)
        values.setdefault("training.temperature", []).extend(plan.temperature(at.training) for at in clocks)
        epochs = {step // plan.steps_per_epoch for step in steps}
        values.setdefault("training.augmentation", []).extend(map(plan.augmentation_strength, epochs))
        for weights in [stage.objective.weights(at) for at in clocks]:
            for name, weight in weights.items():
                of_stage = f"stages.{number}." if written and name in written.objective else ""
                values.setdefault(f"{of_stage}objective.{name}.weight", []).append(weight)
                weighted |= {name} if weight else set()
    for where, each in values.items():
        if (lowest := min(each)) < 0:
            raise ConfigError(f"{where}: expected values of at least 0, got {lowest:g}")
    return frozenset(weighted)


def _optimizer(base: OptimizerConfig, written: StageConfig, where: str) -> OptimizerConfig:
    """The optimizer options of the recipe, with the changes of a stage."""
    return parse(OptimizerConfig, {**base.model_dump(), **(written.optimizer or {})}, f"{where}.optimizer")


def _stage_objective(
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
        terms = {name: known.setdefault(_arguments(name, changed[name]), term) for name, term in own.terms.items()}
        own = Objective(terms, own.schedules)
    schedules = {name: shared.schedules[name] for name in unchanged}
    return StageObjective(Objective(unchanged, schedules) if unchanged else None, own)


def _arguments(name: str, options: Mapping[str, Any]) -> str:
    """Name and arguments of a term, without its weight, as a key."""
    return json.dumps(
        [name, {key: value for key, value in options.items() if key != WEIGHT}], sort_keys=True, default=str
    )
