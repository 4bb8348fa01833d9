"""The plan of a training: stages, and the weights and learning rate of each step.

    recipe, steps per epoch ──> plan ── step ──> stage, clocks, weights, learning rate

A plan has no state. Since a plateau can end a stage early, methods take the first step of each stage so far as an
argument, and assume the maximum length of the current and later stages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from convae.core.arguments import split_name
from convae.core.names import count_text
from convae.objective.schedules.base import Clocks, Moment, Schedule, build_schedule
from convae.training.optimizers.base import parse_optimizer
from convae.training.recipe.schema import OptimizerConfig, PlateauConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POINTS = 2000
"""Approximate number of steps in the figure."""


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
    parse_optimizer(settings.name, "optimizer")
    loss, learning_rate = UnweightedLoss(dict(units)), LearningRate(settings, "optimizer")
    stage = Stage("training", steps, None, (), loss, settings, learning_rate, has_new_optimizer=True)
    constant = build_schedule(1.0, "constant")
    return Plan((stage,), steps_per_epoch, strength=constant, temperature=constant)


def stage_table(plan: Plan) -> list[dict[str, str]]:
    """A table row for each stage, by column heading."""
    rows = []
    for number, stage in enumerate(plan.stages):
        stage_starts = plan.stage_starts()[: number + 1]
        begin, end = stage_starts[-1], plan.stage_end(stage_starts)
        rates = [plan.learning_rate(stage_starts, step) for step in _evenly_spaced(begin, end)]
        rows.append(
            {
                "stage": stage.name,
                "epochs": f"{_number(begin / plan.steps_per_epoch)}–{_number(end / plan.steps_per_epoch)}",
                "steps": f"{stage.steps:,}",
                "ends": _end(stage),
                "frozen": ", ".join(stage.freeze) or "nothing",
                "weights": _weights(plan.weights(stage_starts, begin), plan.weights(stage_starts, end)),
                "optimizer": f"{_optimizer(stage)}, lr {_change(max(rates), rates[-1])}",
            }
        )
    return rows


def draw_schedules(plan: Plan, title: str) -> Figure:
    """Draws the learning rate and the weight of each term over epochs, with the stages."""
    # A late import, since matplotlib takes half a second.
    from convae.pictures.curves import curves

    edges = [step for begin in plan.stage_starts()[1:] for step in (begin - 1, begin)]
    steps = sorted({*_evenly_spaced(0, plan.total_steps(plan.stage_starts())), *edges})
    values: dict[str, list[float]] = {"learning rate": []}
    values |= {f"weight of {name}": [] for name in plan.units()}
    for step in steps:
        stage_starts = plan.stage_starts(step)
        weights = plan.weights(stage_starts, step)
        values["learning rate"].append(plan.learning_rate(stage_starts, step))
        for name in plan.units():
            values[f"weight of {name}"].append(weights.get(name, float("nan")))
    factors = {
        "augmentation strength": [plan.augmentation_strength(step // plan.steps_per_epoch) for step in steps],
        "temperature": [plan.temperature(plan.clocks(plan.stage_starts(step), step).training) for step in steps],
    }
    values |= {name: line for name, line in factors.items() if set(line) != {1.0}}
    epochs = [step / plan.steps_per_epoch for step in steps]
    stages = zip(plan.stage_starts(), plan.stages, strict=True)
    marks: list[Any] = [(begin / plan.steps_per_epoch, stage.name) for begin, stage in stages]
    panels = {name: {"planned": (epochs, line)} for name, line in values.items()}
    return curves(panels, x_label="epoch", title=title, stages=marks if len(marks) > 1 else [])


def _evenly_spaced(begin: int, end: int) -> list[int]:
    """Up to `POINTS` evenly spaced steps from `begin` to `end` − 1."""
    steps: list[int] = np.unique(np.linspace(begin, end - 1, min(POINTS, end - begin)).astype(int)).tolist()
    return steps


def _end(stage: Stage) -> str:
    rule = stage.plateau
    if rule is None:
        return "at full length"
    after = f" after epoch {_number(rule.after)} of the stage" if rule.after else ""
    decrease = f"{_number(100 * rule.threshold)}% decrease of {rule.metric}"
    return f"after {count_text(rule.patience, 'epoch')} without {decrease}{after}, or at full length"


def _optimizer(stage: Stage) -> str:
    name, _ = split_name(stage.optimizer.name, "optimizer.name")
    return f"{'new' if stage.has_new_optimizer else 'same'} {name}"


def _weights(first: dict[str, float], last: dict[str, float]) -> str:
    return ", ".join(f"{name} {_change(weight, last[name])}" for name, weight in first.items())


def _change(first: float, last: float) -> str:
    return _number(first) if first == last else f"{_number(first)} → {_number(last)}"


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
