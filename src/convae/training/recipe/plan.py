"""The plan of a training: stages, and the weights and learning rate of each step.

    recipe, steps per epoch ──> plan ── step ──> stage, clocks, weights, learning rate

The plan is pure arithmetic. Only a plateau can end a stage early; the plan takes the actual starts of stages as
arguments, and assumes the maximal length of the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from convae.core.config import parse
from convae.core.errors import ConfigError
from convae.core.names import unknown_message
from convae.objective.objective import Loader, Objective, build_objective
from convae.objective.schedules.base import Clocks, Moment, Schedule, build_schedule
from convae.training.recipe.objectives import FixedGoal, Goal, StageObjective
from convae.training.recipe.schema import OptimizerConfig, PlateauConfig, Recipe, StageConfig

EPOCHS = 10
"""Default number of epochs."""
LEAST_STEPS = 1000
"""Least number of steps of a default length, since few images need more epochs."""

MOMENTS = 256
"""Number of moments of a stage at which its schedules are checked."""


class LearningRate:
    """The learning rate as a function of the moment: peak × schedule × warm-up.

    Args:
        config: options of the optimizer.
        where: location in the recipe for messages.
    """

    def __init__(self, config: OptimizerConfig, where: str) -> None:
        self._peak = config.lr
        self._warmup = config.warmup
        self._schedule = build_schedule(config.schedule, f"{where}.schedule")

    def __call__(self, moment: Moment, steps: int) -> float:
        """The rate of the step at `moment`, for an optimizer that is used for `steps` steps."""
        rising = self._warmup * steps
        # The first step has a nonzero rate: that at the end of its part of the warm-up.
        rise = min(1.0, (moment.step + 1) / rising) if rising > 0 else 1.0
        return self._peak * self._schedule(moment) * rise


@dataclass(frozen=True)
class Stage:
    """A stage of the training.

    Attributes:
        name: name in curves and logs.
        steps: length in steps; the maximum with a plateau.
        plateau: early stopping.
        freeze: frozen parts, or patterns of parameter names.
        objective: the loss.
        optimizer: options of the optimizer.
        rate: learning rate on the clock of the optimizer.
        fresh: whether the stage starts with a new optimizer; otherwise it continues with the previous one.
    """

    name: str
    steps: int
    plateau: PlateauConfig | None
    freeze: tuple[str, ...]
    objective: Goal
    optimizer: OptimizerConfig
    rate: LearningRate
    fresh: bool


@dataclass(frozen=True)
class Plan:
    """All stages, in order.

    Attributes:
        stages: at least one; the first has a new optimizer.
        steps_per_epoch: batches in an epoch.
        strength: factor on the augmentation, on the clock of the training.
        temperature: temperature of the posterior samples in training, on the same clock.
        weighted: terms with a nonzero weight at some time.
    """

    stages: tuple[Stage, ...]
    steps_per_epoch: int
    strength: Schedule
    temperature: Schedule
    weighted: frozenset[str] = frozenset()

    def stage_starts(self, step: int | None = None) -> list[int]:
        """The first step of each stage up to the one with `step`, for maximal lengths."""
        begins = list(accumulate((stage.steps for stage in self.stages[:-1]), initial=0))
        return begins if step is None else [begin for begin in begins if begin <= step] or [0]

    def running(self, stage_starts: Sequence[int]) -> Stage:
        """The current stage."""
        return self.stages[len(stage_starts) - 1]

    def end(self, stage_starts: Sequence[int]) -> int:
        """The latest end of the current stage, in steps."""
        return stage_starts[-1] + self.running(stage_starts).steps

    def total(self, stage_starts: Sequence[int]) -> int:
        """Steps of the training, at most."""
        return self.end(stage_starts) + sum(stage.steps for stage in self.stages[len(stage_starts) :])

    def clocks(self, stage_starts: Sequence[int], step: int) -> Clocks:
        """The moment before a step of the current stage.

        Args:
            stage_starts: first step of each stage up to the current one.
            step: number of completed steps.
        """
        first = max(number for number in range(len(stage_starts)) if self.stages[number].fresh)
        later = self.stages[len(stage_starts) :]
        going_on = next((number for number, stage in enumerate(later) if stage.fresh), len(later))
        lasts = self.end(stage_starts) + sum(stage.steps for stage in later[:going_on]) - stage_starts[first]
        return Clocks(
            training=self._moment(step, self.total(stage_starts)),
            stage=self._moment(step - stage_starts[-1], self.running(stage_starts).steps),
            optimizer=self._moment(step - stage_starts[first], lasts),
            optimizer_steps=lasts,
        )

    def rate(self, stage_starts: Sequence[int], step: int) -> float:
        """The learning rate of a step."""
        clocks = self.clocks(stage_starts, step)
        return self.running(stage_starts).rate(clocks.optimizer, clocks.optimizer_steps)

    def weights(self, stage_starts: Sequence[int], step: int) -> dict[str, float]:
        """The weight of each term at a step."""
        return self.running(stage_starts).objective.weights(self.clocks(stage_starts, step))

    def augmentation(self, epoch: int) -> float:
        """The factor on the augmentation of an epoch.

        It is constant within an epoch, so that batches are equal after resuming, and assumes maximal lengths of stages.
        """
        return self.strength(self._moment(epoch * self.steps_per_epoch, self.total(self.stage_starts())))

    def units(self) -> dict[str, str]:
        """The unit of each term of any stage."""
        return {name: unit for stage in self.stages for name, unit in stage.objective.units.items()}

    def _moment(self, step: int, steps: int) -> Moment:
        return Moment(step, step / self.steps_per_epoch, step / steps)


def build_plan(recipe: Recipe, steps_per_epoch: int, load: Loader | None = None) -> Plan:
    """Builds the plan of a recipe for a number of batches per epoch.

    Args:
        recipe: the recipe; model and data are not used.
        steps_per_epoch: batches in an epoch.
        load: loads the encoder of a saved model, for terms that compare features.

    Raises:
        ConfigError: invalid terms, schedules or optimizer of a stage.
    """
    shared = build_objective(recipe.objective, load)
    options = recipe.training
    stages: list[Stage] = []
    current = options.optimizer
    rate = LearningRate(current, "training.optimizer")
    for number, written in enumerate(_written_stages(recipe)):
        where = f"stages.{number}"
        if written.optimizer is not None:
            current = _optimizer(options.optimizer, written, where)
            rate = LearningRate(current, f"{where}.optimizer")
        goal = _objective(recipe, shared, written, load, where)
        plateau = written.until.plateau if written.until else None
        if plateau and plateau.of not in (names := ["total", *goal.units]):
            raise ConfigError(f"{where}.until.plateau.of: {unknown_message('figure', plateau.of, names)}")
        stages.append(
            Stage(
                name=written.name or f"stage {number + 1}",
                steps=_length(written, steps_per_epoch),
                plateau=plateau,
                freeze=written.freeze,
                objective=goal,
                optimizer=current,
                rate=rate,
                fresh=not stages or written.optimizer is not None,
            )
        )
    made = Plan(
        tuple(stages),
        steps_per_epoch,
        strength=build_schedule(options.augmentation, "training.augmentation"),
        temperature=build_schedule(options.temperature, "training.temperature"),
    )
    return replace(made, weighted=_check_signs(made, recipe))


def with_steps(plan: Plan, recipe: Recipe, steps_per_epoch: int) -> Plan:
    """The plan of the same recipe for another number of batches per epoch.

    Raises:
        ConfigError: a schedule is negative there.
    """
    written = _written_stages(recipe)
    stages = [
        replace(stage, steps=_length(each, steps_per_epoch)) for stage, each in zip(plan.stages, written, strict=True)
    ]
    made = replace(plan, stages=tuple(stages), steps_per_epoch=steps_per_epoch)
    return replace(made, weighted=_check_signs(made, recipe))


def _written_stages(recipe: Recipe) -> tuple[StageConfig, ...]:
    """The stages of the recipe; a single one by default."""
    options = recipe.training
    epochs = None if options.steps else options.epochs or EPOCHS
    return tuple(recipe.stages) or (StageConfig(name="training", steps=options.steps, epochs=epochs),)


def _length(written: StageConfig, steps_per_epoch: int) -> int:
    """Steps of a stage."""
    return written.steps or (written.epochs or 0) * steps_per_epoch


def single_stage(
    steps: int, steps_per_epoch: int, *, units: Mapping[str, str], optimizer: OptimizerConfig | None = None
) -> Plan:
    """The plan of a task without a recipe: one stage.

    Args:
        steps: steps of the training.
        steps_per_epoch: batches in an epoch.
        units: the unit of each term of the loss.
        optimizer: the optimizer and its learning rate.
    """
    settings = optimizer or OptimizerConfig()
    rate = LearningRate(settings, "optimizer")
    stage = Stage("training", steps, None, (), FixedGoal(dict(units)), settings, rate, fresh=True)
    constant = build_schedule(1.0, "constant")
    return Plan((stage,), steps_per_epoch, strength=constant, temperature=constant)


def _check_signs(made: Plan, recipe: Recipe) -> frozenset[str]:
    """Checks that no weight, learning rate or other factor becomes negative.

    Returns:
        The terms with a nonzero weight at some time.

    Raises:
        ConfigError: one becomes negative; the message names its location in the recipe.
    """
    values: dict[str, list[float]] = {}
    weighted: set[str] = set()
    for number, stage in enumerate(made.stages):
        starts, written = made.stage_starts()[: number + 1], recipe.stages[number] if recipe.stages else None
        steps = sorted({starts[-1] + stage.steps * part // MOMENTS for part in range(MOMENTS)})
        clocks = [made.clocks(starts, step) for step in steps]
        rate = f"stages.{number}.optimizer" if written and written.optimizer else "training.optimizer"
        values.setdefault(f"{rate}.schedule", []).extend(stage.rate(at.optimizer, at.optimizer_steps) for at in clocks)
        values.setdefault("training.temperature", []).extend(made.temperature(at.training) for at in clocks)
        epochs = {step // made.steps_per_epoch for step in steps}
        values.setdefault("training.augmentation", []).extend(map(made.augmentation, epochs))
        for weights in [stage.objective.weights(at) for at in clocks]:
            for name, weight in weights.items():
                of_stage = f"stages.{number}." if written and name in written.objective else ""
                values.setdefault(f"{of_stage}objective.{name}.weight", []).append(weight)
                weighted |= {name} if weight else set()
    for where, each in values.items():
        if (lowest := min(each)) < 0:
            raise ConfigError(f"{where}: falls to {lowest:g}, but is never below 0: that would train for the opposite")
    return frozenset(weighted)


def _optimizer(base: OptimizerConfig, written: StageConfig, where: str) -> OptimizerConfig:
    """The optimizer of the recipe with the changes of a stage."""
    return parse(OptimizerConfig, {**base.model_dump(), **(written.optimizer or {})}, f"{where}.optimizer")


def _objective(
    recipe: Recipe, shared: Objective, written: StageConfig, load: Loader | None, where: str
) -> StageObjective:
    """The objective of the recipe with the changes of a stage; unchanged terms are shared with other stages."""
    own = {name: {**recipe.objective.get(name, {}), **given} for name, given in written.objective.items()}
    kept = [name for name in recipe.objective if name not in own]
    terms = {name: term for name, term in shared.terms.items() if name in kept}
    rest = Objective(terms, {name: shared.schedules[name] for name in kept})
    try:
        changed = build_objective(own, load) if own else None
    except ConfigError as error:
        raise ConfigError(f"{where}.{error}") from error
    return StageObjective(rest if kept else None, changed)
