"""The engine of a training: the updates of the running stage with their optimizers, frozen parts, averaged weights."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor

from convae.core.types import Batch
from convae.training.loop.precision import Precision
from convae.training.loop.step import StepResult, TrainStep
from convae.training.loop.task import ModuleState, Stateful, Task
from convae.training.loop.weights import ExponentialMovingAverage, FrozenParts, OptimizerState, build_optimizer
from convae.training.recipe.plan import Stage
from convae.training.recipe.stage_objective import Clocks


class Engine:
    """Takes the steps of a task. `find-batch-size` measures the memory of this very object.

    Args:
        task: what is trained.
        stage: the stage that starts or is resumed.
    """

    def __init__(self, task: Task, stage: Stage) -> None:
        options = task.options
        self._task = task
        self.ema = ExponentialMovingAverage(task.main, options.ema) if options.ema is not None else None
        self.steps: list[TrainStep] = []
        self.enter(stage)

    def enter(self, stage: Stage) -> None:
        """Begins a stage: its updates, with new optimizers where it brings one."""
        task, options = self._task, self._task.options
        before = {step.update.name: step for step in self.steps}
        self.steps = []
        for update in task.updates(stage):
            old = before.get(update.name)
            optimizer = old.optimizer if old and not stage.fresh else build_optimizer(update.optimizer, update.module)
            precision = old.precision if old else Precision(options.precision, task.device)
            self.steps.append(TrainStep(update, optimizer, precision, options, task.ranks, task.plan.temperature))
        self._frozen = FrozenParts(task.main, stage.freeze, f"stage '{stage.name}': freeze")

    def freeze(self) -> None:
        """Freezes what the stage freezes; after the weights were restored, whose averages frozen parts take."""
        self._frozen.apply()
        if self.ema:
            self.ema.freeze(self._frozen.names)

    def train(self) -> None:
        """Training mode for what is not frozen."""
        for module in self._task.modules.values():
            module.train()
        self._frozen.train()

    def step(self, batch: Batch, clocks: Clocks, lr_factor: float, largest_total: Tensor | None = None) -> StepResult:
        """One step of every update, in their order.

        Args:
            batch: the images, or this rank's slice of them.
            clocks: the moment before the step.
            lr_factor: on all learning rates.
            largest_total: of the first update, nats per image, above which it is skipped.
        """
        results = []
        for number, step in enumerate(self.steps):
            rate = step.update.rate(clocks.optimizer, clocks.optimizer_steps) * lr_factor
            for group in step.optimizer.param_groups:
                group["lr"] = rate
            results.append(step(batch, clocks, largest_total if number == 0 else None))
        if self.ema:
            self.ema.update(clocks.training.step)
        return results[0] if len(results) == 1 else _together(self.steps, results)

    @property
    def rate(self) -> float:
        """The learning rate that the first update took last."""
        rate: float = self.steps[0].optimizer.param_groups[0]["lr"]
        return rate

    @property
    def loss_scale(self) -> float | None:
        """The factor on the loss of the first update, in fp16; waits for the device."""
        scale = self.steps[0].precision.scale
        return float(scale.factor) if scale else None

    def averaged(self) -> contextlib.AbstractContextManager[None]:
        """Inside the block, the main module has the weights that it is judged, shown and saved with."""
        return self.ema.in_place() if self.ema else contextlib.nullcontext()

    def statefuls(self) -> dict[str, Stateful]:
        """Everything of the engine that has to survive a stop, by name."""
        found: dict[str, Stateful] = {name: ModuleState(module) for name, module in self._task.modules.items()}
        for number, step in enumerate(self.steps):
            ending = f"_{step.update.name}" if number else ""
            found[f"optimizer{ending}"] = OptimizerState(step.optimizer, step.update.module)
            if step.precision.scale:
                found[f"loss_scale{ending}"] = step.precision.scale
        if self.ema:
            found["ema"] = self.ema
        return found


def _together(steps: list[TrainStep], results: list[StepResult]) -> StepResult:
    """The results of several updates as one: what they all have is named by the update, except of the first."""
    metrics: dict[str, Tensor] = dict(results[0].metrics)
    for step, result in zip(steps[1:], results[1:], strict=True):
        own = ("total", "gradient_norm", "clipped")
        metrics |= {f"{step.update.name}_{key}" if key in own else key: value for key, value in result.metrics.items()}
    skipped = torch.stack([result.skipped for result in results]).any()
    return StepResult(metrics, skipped, torch.stack([result.faulty for result in results]).any())
