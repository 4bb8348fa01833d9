"""The updates of the current stage with their optimizers, frozen parts and averaged weights."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from convae.core.errors import ConfigError
from convae.core.names import unknown_message
from convae.core.types import Batch
from convae.objective.schedules.base import Clocks
from convae.training.loop.numerics import OptimizerState, StepPrecision
from convae.training.loop.step import StepResult, TrainStep
from convae.training.loop.task import ModuleState, Stateful, Task, Update
from convae.training.optimizers.base import build_optimizer
from convae.training.recipe.plan import Stage
from convae.training.sharding import shard_like

_STATISTICS = ("running_mean", "running_var")


def _running_statistics(model: nn.Module) -> dict[str, Tensor]:
    """The buffers in which norms, those of torch too, keep statistics of batches."""
    return {name: buffer for name, buffer in model.named_buffers() if name.rpartition(".")[2] in _STATISTICS}


class FrozenParts:
    """The parts of a model that a stage freezes.

    A module with only frozen parameters also stays in evaluation mode, so that batch-norm statistics do not change and
    dropout is off. So does one without parameters whose buffers are frozen, such as a codebook of moving averages.

    Args:
        model: the model.
        parts: names of parts, such as `encoder`, or patterns of names of parameters and buffers, such as `decoder.0.*`.
        where: location in the recipe for messages.

    Raises:
        ConfigError: a part or pattern matches nothing, or nothing is left to train.
    """

    def __init__(self, model: nn.Module, parts: Sequence[str], where: str) -> None:
        self._model = model
        # A part without parameters may still have running statistics.
        self._parts = [child for name, child in model.named_children() if name in parts]
        children = [name for name, _ in model.named_children()]
        names = [name for name, _ in model.named_parameters()]
        buffers = [name for name, _ in model.named_buffers()]
        for part in parts:
            if part not in children and not any(fnmatchcase(name, part) for name in [*names, *buffers]):
                raise ConfigError(f"{where}: {unknown_message('part or pattern', part, children)}")
        patterns = [f"{part}.*" if part in children else part for part in parts]

        def match_names(each: Iterable[str]) -> set[str]:
            return {name for name in each if any(fnmatchcase(name, pattern) for pattern in patterns)}

        self.names = match_names([*names, *_running_statistics(model)])
        self._buffers = match_names(buffers)
        if self.names.issuperset(names):
            raise ConfigError(f"{where}: freezes all parameters. Leave at least one part to train")

    def apply(self) -> None:
        """Enables gradients of all parameters except frozen ones."""
        for name, parameter in self._model.named_parameters():
            parameter.requires_grad_(name not in self.names)
            if name in self.names:
                parameter.grad = None

    def train(self) -> None:
        """Sets training mode, with frozen parts in evaluation mode."""
        self._model.train()
        for name, module in self._model.named_modules():
            own = list(module.parameters())
            buffers = [] if own else [f"{name}.{buffer}" for buffer, _ in module.named_buffers()]
            if (own or buffers) and not any(each.requires_grad for each in own) and self._buffers.issuperset(buffers):
                module.eval()
        for part in self._parts:
            part.eval()


class ExponentialMovingAverage:
    """Exponential moving average of parameters (Polyak & Juditsky 1992) and of the running statistics of norms.

    Those statistics are of the weights of the last steps; with averaged weights, they would not be those of the
    activations. Other buffers, such as the vectors of a codebook, are not averaged.

    The average of a frozen parameter is frozen as well, and is the value with which the other parts are trained.

    Args:
        model: the model; the average starts at its weights.
        decay: decay of the average; smaller in the first steps, so that it forgets the initial weights.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._parameters: dict[str, Tensor] = dict(model.named_parameters())
        self._statistics = _running_statistics(model)
        self._decay = decay
        self._frozen: frozenset[str] = frozenset()
        self.tensors: dict[str, Tensor] = {}
        self.begin()

    def begin(self, tensors: Mapping[str, Tensor] | None = None) -> None:
        """Starts at `tensors`, by parameter name, or at the weights of the model."""
        self.tensors = {
            name: tensor.detach().clone(memory_format=torch.preserve_format)
            for name, tensor in self._averaged().items()
        }
        for name, tensor in (tensors or {}).items():
            self.tensors[name].copy_(shard_like(tensor, self.tensors[name]))

    def _averaged(self) -> dict[str, Tensor]:
        return {**self._parameters, **self._statistics}

    def state(self) -> dict[str, Any]:
        """The averages by name of the parameter or the buffer."""
        return dict(self.tensors)

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores the averages."""
        self.begin(state)

    @torch.no_grad()
    def freeze(self, names: Collection[str]) -> None:
        """Freezes the average of these tensors, which take its value; those of all others are updated."""
        averaged = self._averaged()
        for name in names:
            averaged[name].copy_(self.tensors[name])
        self._frozen = frozenset(names)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Updates the averages after a step; `step` is the number of steps before it."""
        decay = min(self._decay, (1 + step) / (10 + step))
        for group in (self._parameters, self._statistics):  # of which only the first are sharded
            moving = [name for name in group if name not in self._frozen]
            if moving:
                torch._foreach_lerp_(
                    [self.tensors[name] for name in moving], [group[name] for name in moving], 1 - decay
                )

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """A context in which the model has the averaged weights."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, tensor in self._averaged().items():
            kept = tensor.detach().clone(memory_format=torch.preserve_format)
            tensor.copy_(self.tensors[name])
            self.tensors[name].copy_(kept)


class Engine:
    """Runs the steps of a task. `find-batch-size` measures the memory of the same object.

    Args:
        task: the task.
        stage: the current stage.
    """

    def __init__(self, task: Task, stage: Stage) -> None:
        options = task.options
        self._task = task
        self.ema = ExponentialMovingAverage(task.main, options.ema) if options.ema is not None else None
        self.steps: list[TrainStep] = []
        self.enter(stage)

    def enter(self, stage: Stage) -> None:
        """Begins a stage: its updates, with new optimizers if it defines one."""
        task, options = self._task, self._task.options
        before = {step.update.name: step for step in self.steps}
        self.steps = []
        for update in task.updates(stage):
            old = before.get(update.name)
            if old is not None and old.update.module is not update.module:
                old = None
            optimizer = old.optimizer if old and not stage.has_new_optimizer else _new_optimizer(update)
            precision = old.precision if old else StepPrecision(options.precision, task.device)
            self.steps.append(TrainStep(update, optimizer, precision, options, task.ranks, task.plan.temperature))
        self._frozen = FrozenParts(task.main, task.frozen(stage), f"stage '{stage.name}': freeze")

    def freeze(self) -> None:
        """Freezes the parts of the stage, after the weights and averages were restored."""
        self._frozen.apply()
        if self.ema:
            self.ema.freeze(self._frozen.names)

    def train(self) -> None:
        """Sets training mode, with frozen parts in evaluation mode."""
        for module in self._task.modules.values():
            module.train()
        self._frozen.train()

    def step(self, batch: Batch, clocks: Clocks, lr_factor: float, largest_total: Tensor | None = None) -> StepResult:
        """One step of every update, in order.

        Args:
            batch: the images, or the slice of this rank.
            clocks: the moment before the step.
            lr_factor: factor on all learning rates.
            largest_total: limit of the total of the first update, nats per image, above which it is skipped.
        """
        results = []
        for number, step in enumerate(self.steps):
            rate = step.update.learning_rate(clocks.optimizer, clocks.optimizer_steps) * lr_factor
            for group in step.optimizer.param_groups:
                group["lr"] = rate
            results.append(step(batch, clocks, largest_total if number == 0 else None))
        if self.ema:
            self.ema.update(clocks.training.step)
        return results[0] if len(results) == 1 else _together(self.steps, results)

    @property
    def rate(self) -> float:
        """The latest learning rate of the first update."""
        rate: float = self.steps[0].optimizer.param_groups[0]["lr"]
        return rate

    @property
    def loss_scale(self) -> float | None:
        """The loss scale of the first update, in fp16; synchronizes with the device."""
        scale = self.steps[0].precision.scale
        return float(scale.factor) if scale else None

    def averaged(self) -> contextlib.AbstractContextManager[None]:
        """A context in which the main module has the weights for validation, pictures and saving."""
        return self.ema.in_place() if self.ema else contextlib.nullcontext()

    def statefuls(self) -> dict[str, Stateful]:
        """The `Stateful`s of the engine by name."""
        found: dict[str, Stateful] = {name: ModuleState(module) for name, module in self._task.modules.items()}
        for number, step in enumerate(self.steps):
            ending = f"_{step.update.name}" if number else ""
            found[f"optimizer{ending}"] = OptimizerState(step.optimizer, step.update.module)
            if step.precision.scale:
                found[f"loss_scale{ending}"] = step.precision.scale
        if self.ema:
            found["ema"] = self.ema
        return found


def _new_optimizer(update: Update) -> torch.optim.Optimizer:
    """The optimizer of an update, with its options."""
    options = update.optimizer
    return build_optimizer(options.name, update.module, lr=options.lr, weight_decay=options.weight_decay)


def _together(steps: list[TrainStep], results: list[StepResult]) -> StepResult:
    """Merges the results of several updates; common metrics get the name of the update, except those of the first."""
    metrics: dict[str, Tensor] = dict(results[0].metrics)
    for step, result in zip(steps[1:], results[1:], strict=True):
        own = ("total", "gradient_norm", "clipped", "above_limit")
        metrics |= {f"{step.update.name}_{key}" if key in own else key: value for key, value in result.metrics.items()}
    skipped = torch.stack([result.skipped for result in results]).any()
    return StepResult(metrics, skipped, torch.stack([result.faulty for result in results]).any())
