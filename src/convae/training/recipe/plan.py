"""The plan of a training: which stage when, and every weight and learning rate at each step, known before it begins.

    recipe, steps per epoch ──> plan ── step ──> stage, clocks, weights, learning rate

All of it is arithmetic. Only a stage that ends at a plateau ends when the figures say so; the plan takes the steps at
which the stages stage_starts for granted, and counts with the longest that the others may take.
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
from convae.training.recipe.schema import OptimizerConfig, PlateauConfig, Recipe, StageConfig
from convae.training.recipe.stage_objective import FixedGoal, Goal, StageObjective

EPOCHS = 10
"""Passes through the training images, where a recipe does not say how long it takes, and …"""
LEAST_STEPS = 1000
"""… the steps that a new run then takes at least: few images need more passes."""

MOMENTS = 256
"""Of a stage, at which its schedules are looked at before it begins."""


class LearningRate:
    """The learning rate as a function of the moment: the peak, times the schedule, times the warm-up's rise.

    Args:
        config: of the optimizer.
        where: the optimizer's place in the recipe, for messages.
    """

    def __init__(self, config: OptimizerConfig, where: str) -> None:
        self._peak = config.lr
        self._warmup = config.warmup
        self._schedule = build_schedule(config.schedule, f"{where}.schedule")

    def __call__(self, moment: Moment, steps: int) -> float:
        """The rate for the step that begins at `moment`, on the clock of an optimizer that lasts for `steps` steps."""
        rising = self._warmup * steps
        # The first step already moves: it takes the rate of the end of its own share of the rise.
        rise = min(1.0, (moment.step + 1) / rising) if rising > 0 else 1.0
        return self._peak * self._schedule(moment) * rise


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
        weighted: the terms whose weight is not 0 at some time.
    """

    stages: tuple[Stage, ...]
    steps_per_epoch: int
    strength: Schedule
    temperature: Schedule
    weighted: frozenset[str] = frozenset()

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
    """The plan of the same recipe for a data set that makes so many batches.

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
    """The stages of the recipe; one that is all of the training where it names none."""
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


def _check_signs(made: Plan, recipe: Recipe) -> frozenset[str]:
    """Checks that no weight, learning rate or other factor is negative at any time.

    Returns:
        The terms whose weight is not 0 at some time.

    Raises:
        ConfigError: one is negative; the message names its place in the recipe.
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
