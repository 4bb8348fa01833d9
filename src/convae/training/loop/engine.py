"""The engine of a training: the updates of the running stage, their optimizers, frozen parts, averaged weights."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from convae.core.errors import ConfigError
from convae.core.names import unknown_message
from convae.core.types import Batch
from convae.objective.schedules.base import Clocks
from convae.training.distributed.sharding import shard_like
from convae.training.loop.step import Precision, StepResult, TrainStep
from convae.training.loop.task import ModuleState, Stateful, Task
from convae.training.recipe.plan import Stage
from convae.training.recipe.schema import OptimizerConfig


def build_optimizer(config: OptimizerConfig, module: nn.Module) -> torch.optim.Optimizer:
    """Adam or AdamW over the module's parameters; weight decay is kept off biases, norms and single numbers.

    Kingma & Ba 2015 (arXiv:1412.6980), Loshchilov & Hutter 2019 (arXiv:1711.05101).
    """
    # Frozen ones too: a later stage may train them, and the optimizer passes over what has no gradient.
    groups = [
        {"params": [p for p in module.parameters() if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in module.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
    return kind([group for group in groups if group["params"]], lr=config.lr, betas=config.betas, fused=True)


class OptimizerState:
    """The state of an optimizer by the names of the parameters, as a `Stateful`.

    Args:
        optimizer: the optimizer.
        module: whose parameters it updates.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, module: nn.Module) -> None:
        self._optimizer, self._module = optimizer, module

    def state(self) -> dict[str, Any]:
        """Each tensor as `parameter.key`."""
        names = {id(parameter): name for name, parameter in self._module.named_parameters()}
        return {
            f"{names[id(parameter)]}.{key}": torch.as_tensor(value)
            for parameter, values in self._optimizer.state.items()
            for key, value in values.items()
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores the tensors, in the memory layout and shards of their parameters."""
        self._optimizer.state.clear()
        parameters = dict(self._module.named_parameters())
        for name, tensor in state.items():
            owner, _, key = name.rpartition(".")
            parameter = parameters[owner]
            like_parameter = tensor.ndim == parameter.ndim and tensor.ndim > 0
            layout = torch.preserve_format if not like_parameter else _memory_format(parameter)
            # A copy: the optimizer changes it in place.
            own = tensor.to(parameter.device, copy=True).contiguous(memory_format=layout)
            self._optimizer.state[parameter][key] = shard_like(own, parameter) if like_parameter else own


def _memory_format(parameter: Tensor) -> torch.memory_format:
    """The memory layout of a parameter, which its optimizer state shares."""
    if parameter.ndim == 4 and not parameter.is_contiguous():
        return torch.channels_last
    if parameter.ndim == 5 and not parameter.is_contiguous():
        return torch.channels_last_3d
    return torch.contiguous_format


class FrozenParts:
    """The part of a model that a stage leaves as it is.

    A module all of whose parameters are frozen also stays in evaluation mode, so that batch-norm statistics do not
    move and nothing is dropped out in it.

    Args:
        model: the model.
        parts: names of its parts, such as `encoder`, or patterns of its parameters' names, such as `decoder.0.*`.
        where: the place in the recipe, for messages.

    Raises:
        ConfigError: a part or pattern names nothing, or nothing is left to train.
    """

    def __init__(self, model: nn.Module, parts: Sequence[str], where: str) -> None:
        self._model = model
        # A part without parameters may still have statistics that move.
        self._parts = [child for name, child in model.named_children() if name in parts]
        children = [name for name, _ in model.named_children()]
        names = [name for name, _ in model.named_parameters()]
        for part in parts:
            if part not in children and not any(fnmatchcase(name, part) for name in names):
                raise ConfigError(f"{where}: {unknown_message('part or pattern', part, children)}")
        patterns = [f"{part}.*" if part in children else part for part in parts]
        self.names = {name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)}
        if len(self.names) == len(names):
            raise ConfigError(f"{where}: freezes the whole model, so there is nothing to train")

    def apply(self) -> None:
        """Lets gradients reach what is not frozen, and only that."""
        for name, parameter in self._model.named_parameters():
            parameter.requires_grad_(name not in self.names)
            if name in self.names:
                parameter.grad = None

    def train(self) -> None:
        """Training mode for what is not frozen, evaluation mode for what is."""
        self._model.train()
        for module in self._model.modules():
            own = list(module.parameters())
            if own and not any(parameter.requires_grad for parameter in own):
                module.eval()
        for part in self._parts:
            part.eval()


class ExponentialMovingAverage:
    """The moving average of a model's parameters (Polyak & Juditsky 1992); buffers are taken as they are.

    The average of a frozen parameter is frozen, too, and is what the parts that are trained are trained with.

    Args:
        model: the model, whose weights the average begins with.
        decay: how much of the average a step leaves; less in the first steps, so that it forgets where it began.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._parameters = dict(model.named_parameters())
        self._decay = decay
        self._frozen: frozenset[str] = frozenset()
        self.tensors: dict[str, Tensor] = {}
        self.begin()

    def begin(self, tensors: Mapping[str, Tensor] | None = None) -> None:
        """Begins with `tensors`, by the parameters' names, or with the model's weights."""
        self.tensors = {
            name: parameter.detach().clone(memory_format=torch.preserve_format)
            for name, parameter in self._parameters.items()
        }
        for name, tensor in (tensors or {}).items():
            self.tensors[name].copy_(shard_like(tensor, self.tensors[name]))

    def state(self) -> dict[str, Any]:
        """The averages by the names of the parameters."""
        return dict(self.tensors)

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores the averages."""
        self.begin(state)

    @torch.no_grad()
    def freeze(self, names: Collection[str]) -> None:
        """Fixes the average of some parameters, by their names, which take its value; that of all others moves."""
        for name in names:
            self._parameters[name].copy_(self.tensors[name])
        self._frozen = frozenset(names)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes in the weights after a step; `step` steps were done before it."""
        decay = min(self._decay, (1 + step) / (10 + step))
        moving = [name for name in self.tensors if name not in self._frozen]
        weights: list[Tensor] = [self._parameters[name] for name in moving]
        torch._foreach_lerp_([self.tensors[name] for name in moving], weights, 1 - decay)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside the block, the model has the averaged weights."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, parameter in self._parameters.items():
            kept = parameter.detach().clone(memory_format=torch.preserve_format)
            parameter.copy_(self.tensors[name])
            self.tensors[name].copy_(kept)


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
