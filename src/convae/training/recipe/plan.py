"""The plan of a training: which stage when, and every weight and learning rate at each step, known before it begins.

    recipe, steps per epoch ──> plan ── step ──> stage, clocks, weights, learning rate

All of it is arithmetic. Only a stage that ends at a plateau ends when the figures say so; the plan takes the steps at
which the stages stage_starts for granted, and counts with the longest that the others may take.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from convae.core.config import parse
from convae.core.errors import ConfigError
from convae.core.names import unknown_message
from convae.objective.objective import Loader, Objective, build_objective
from convae.objective.schedules.base import Moment, Schedule, build_schedule
from convae.training.recipe.schema import OptimizerConfig, PlateauConfig, Recipe, StageConfig
from convae.training.recipe.stage_objective import Clocks, FixedGoal, Goal, LearningRate, StageObjective

EPOCHS = 10
"""Passes through the training images, where a recipe does not say how long it takes, and …"""
LEAST_STEPS = 1000
"""… the steps that a new run then takes at least: few images need more passes."""

MOMENTS = 256
"""Of a stage, at which its schedules are looked at before it begins."""


@dataclass(frozen=True)
class Stage:
    """A part of the training.

    Attributes:
        name: for curves and logs.
        steps: its length; the longest it may take where a plateau ends it.
        plateau: what ends it sooner.
        freeze: parts, or patterns of parameters' names.
        objective: what is minimized.
        optimizer: how weights follow gradients.
        rate: the learning rate on the optimizer's clock.
        fresh: whether the stage starts with a new optimizer; otherwise it continues with that of the stage before.
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
        stages: at least one; the first brings an optimizer.
        steps_per_epoch: batches in an epoch.
        strength: of the random changes of training images, on the clock of the whole training.
        temperature: of the latents that are drawn in training, on the same clock.
    """

    stages: tuple[Stage, ...]
    steps_per_epoch: int
    strength: Schedule
    temperature: Schedule

    def stage_starts(self, step: int | None = None) -> list[int]:
        """The steps at which the stages begin, up to the one that does `step`, if each takes its longest."""
        begins = list(accumulate((stage.steps for stage in self.stages[:-1]), initial=0))
        return begins if step is None else [begin for begin in begins if begin <= step] or [0]

    def running(self, stage_starts: Sequence[int]) -> Stage:
        """The last stage that stage_starts."""
        return self.stages[len(stage_starts) - 1]

    def end(self, stage_starts: Sequence[int]) -> int:
        """The step after which the running stage is over, at the latest."""
        return stage_starts[-1] + self.running(stage_starts).steps

    def total(self, stage_starts: Sequence[int]) -> int:
        """Steps of the whole training, at most."""
        return self.end(stage_starts) + sum(stage.steps for stage in self.stages[len(stage_starts) :])

    def clocks(self, stage_starts: Sequence[int], step: int) -> Clocks:
        """The moment before a step of the running stage.

        Args:
            stage_starts: the steps at which the stages up to the running one stage_starts.
            step: steps done.
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
        """The factor on the random changes of an epoch's images.

        It does not depend on the step, so that a batch is the same wherever in the epoch a run was stopped, and counts
        with the longest that every stage may take.
        """
        return self.strength(self._moment(epoch * self.steps_per_epoch, self.total(self.stage_starts())))

    def units(self) -> dict[str, str]:
        """The unit of each term of any stage."""
        return {name: unit for stage in self.stages for name, unit in stage.objective.units.items()}

    def _moment(self, step: int, steps: int) -> Moment:
        return Moment(step, step / self.steps_per_epoch, step / steps)


def build_plan(recipe: Recipe, steps_per_epoch: int, load: Loader | None = None) -> Plan:
    """The plan that a recipe describes, for a data set that makes so many batches.

    Args:
        recipe: the whole recipe; its model and its data play no part.
        steps_per_epoch: batches in an epoch.
        load: gives the layers of a saved model's encoder to the terms that compare with what it sees.

    Raises:
        ConfigError: a stage's terms, schedules or optimizer are wrong.
    """
    shared = build_objective(recipe.objective, load)
    options = recipe.training
    alone = StageConfig(
        name="training", steps=options.steps, epochs=None if options.steps else options.epochs or EPOCHS
    )
    stages: list[Stage] = []
    current = options.optimizer
    rate = LearningRate(current, "training.optimizer")
    for number, written in enumerate(recipe.stages or (alone,)):
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
                steps=written.steps or (written.epochs or 0) * steps_per_epoch,
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
    _check_signs(made, recipe)
    return made


def single_stage(
    steps: int, steps_per_epoch: int, *, units: Mapping[str, str], optimizer: OptimizerConfig | None = None
) -> Plan:
    """The plan of a task without a recipe: one stage.

    Args:
        steps: of the training.
        steps_per_epoch: batches in an epoch.
        units: the unit of each term of the loss.
        optimizer: the optimizer and its learning rate.
    """
    settings = optimizer or OptimizerConfig()
    rate = LearningRate(settings, "optimizer")
    stage = Stage("training", steps, None, (), FixedGoal(dict(units)), settings, rate, fresh=True)
    constant = build_schedule(1.0, "constant")
    return Plan((stage,), steps_per_epoch, strength=constant, temperature=constant)


def _check_signs(made: Plan, recipe: Recipe) -> None:
    """Checks that no weight, learning rate or other factor is negative at any time.

    Raises:
        ConfigError: one is; the message names its place in the recipe.
    """
    lowest: dict[str, float] = {}

    def note(where: str, value: float) -> None:
        lowest[where] = min(value, lowest.get(where, value))

    for number, stage in enumerate(made.stages):
        stage_starts = made.stage_starts()[: number + 1]
        begin, written = stage_starts[-1], recipe.stages[number] if recipe.stages else None
        rate = f"stages.{number}.optimizer" if written and written.optimizer else "training.optimizer"
        for step in {begin + stage.steps * part // MOMENTS for part in range(MOMENTS)}:
            note(f"{rate}.schedule", made.rate(stage_starts, step))
            note("training.temperature", made.temperature(made.clocks(stage_starts, step).training))
            note("training.augmentation", made.augmentation(step // made.steps_per_epoch))
            for name, weight in made.weights(stage_starts, step).items():
                of_stage = f"stages.{number}." if written and name in written.objective else ""
                note(f"{of_stage}objective.{name}.weight", weight)
    for where, value in lowest.items():
        if value < 0:
            raise ConfigError(f"{where}: falls to {value:g}, but is never below 0: that would train for the opposite")


def _optimizer(base: OptimizerConfig, written: StageConfig, where: str) -> OptimizerConfig:
    """The recipe's optimizer with what a stage changes."""
    return parse(OptimizerConfig, {**base.model_dump(), **(written.optimizer or {})}, f"{where}.optimizer")


def _objective(
    recipe: Recipe, shared: Objective, written: StageConfig, load: Loader | None, where: str
) -> StageObjective:
    """The recipe's objective with what a stage changes; terms that it leaves alone are shared with other stages."""
    own = {name: {**recipe.objective.get(name, {}), **given} for name, given in written.objective.items()}
    kept = [name for name in recipe.objective if name not in own]
    terms = {name: term for name, term in shared.terms.items() if name in kept}
    rest = Objective(terms, {name: shared.schedules[name] for name in kept})
    try:
        changed = build_objective(own, load) if own else None
    except ConfigError as error:
        raise ConfigError(f"{where}.{error}") from error
    return StageObjective(rest if kept else None, changed)
