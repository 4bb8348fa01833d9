"""Preview of a plan: a table of stages, and a figure of schedules."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from convae.pictures.curves import curves
from convae.training.recipe.plan import Plan, Stage

POINTS = 2000
"""Approximate number of steps in the figure."""


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
    return f"after {rule.patience} epochs without {decrease}{after}, or at full length"


def _optimizer(stage: Stage) -> str:
    return f"{'new' if stage.has_new_optimizer else 'same'} {stage.optimizer.name}"


def _weights(first: dict[str, float], last: dict[str, float]) -> str:
    return ", ".join(f"{name} {_change(weight, last[name])}" for name, weight in first.items())


def _change(first: float, last: float) -> str:
    return _number(first) if first == last else f"{_number(first)} → {_number(last)}"


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
