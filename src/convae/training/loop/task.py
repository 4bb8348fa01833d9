"""The interface of the trainer: tasks with their updates, and objects whose state is in checkpoints."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from convae.core.noise import CountedNoise
from convae.core.types import Batch
from convae.data import BatchSource
from convae.objective.objective import Losses
from convae.objective.schedules.base import Clocks
from convae.training.distributed import Ranks
from convae.training.recipe.plan import LearningRate, Plan, Stage
from convae.training.recipe.schema import OptimizerConfig, TrainingConfig
from convae.training.sharding import load_full_state

Loss = Callable[[Batch, CountedNoise, Clocks], Losses]
"""Maps a batch, its noise and the moment to the loss of an update."""
State = dict[str, Any]
"""Tensors and JSON values by name."""


@runtime_checkable
class Stateful(Protocol):
    """An object whose state is saved in checkpoints, under a name."""

    def state(self) -> State:
        """The state: tensors, which may be sharded, and JSON values, by name."""

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores the result of `state`; tensors are full and on the CPU."""


@dataclass(frozen=True)
class Update:
    """One optimizer step within a training step.

    Attributes:
        name: name in logs and checkpoints.
        module: the module to update.
        loss: loss function; its terms need names that no other update of the step uses.
        optimizer: settings of the optimizer.
        learning_rate: learning rate, on the clock of the optimizer.
    """

    name: str
    module: nn.Module
    loss: Loss
    optimizer: OptimizerConfig
    learning_rate: LearningRate


@dataclass(frozen=True)
class Validation:
    """Validation metrics.

    Attributes:
        row: values for the log, including `total`.
        judged: metrics for model selection and plateaus: `total` under the weights at the end of the stage, and the
            terms.
        terms: unweighted mean of each term.
        warning: warning, such as posterior collapse.
    """

    row: Mapping[str, Any]
    judged: dict[str, float]
    terms: dict[str, float]
    warning: str | None = None


@dataclass(frozen=True)
class SavedAs:
    """The record of the training in a saved model.

    Attributes:
        which: which model of the run it is, such as the best.
        step: step of the model.
        stage: name of the stage.
        metrics: metrics of the model.
    """

    which: str
    step: int
    stage: str
    metrics: dict[str, float] = field(default_factory=dict)


class Task(ABC):
    """A training task: modules, updates of each stage, batches, validation, pictures and saving.

    Training a VAE and fitting a prior to latents are tasks. A task must define `updates`,
    `save` and `description`.

    Attributes:
        modules: modules saved in checkpoints, on the device. The first is the main module, to which frozen parts, the
            moving average and health checks apply.
        plan: the stages.
        batches: the training data.
        options: batch size, seed, precision, intervals.
        device: device of the modules.
        ranks: the processes.
        title: title of the run.
    """

    modules: dict[str, nn.Module]
    plan: Plan
    batches: BatchSource
    options: TrainingConfig
    device: torch.device
    ranks: Ranks
    title: str

    @abstractmethod
    def updates(self, stage: Stage) -> list[Update]:
        """The updates of a training step in a stage, in order; the first is that of the main module."""

    @abstractmethod
    def save(self, path: Path, saved: SavedAs) -> None:
        """Saves the main module as an artifact, replacing an earlier one; called in the main process."""

    @abstractmethod
    def description(self) -> dict[str, Any]:
        """The configuration as JSON values; checkpoints record it."""

    def frozen(self, stage: Stage) -> tuple[str, ...]:
        """Parts of the main module, or patterns of parameter names, that are frozen in a stage."""
        return stage.freeze

    @property
    def metric_units(self) -> dict[str, str]:
        """Unit of each logged metric that the curves show, besides the terms of the loss."""
        return {}

    @property
    def main(self) -> nn.Module:
        """The first module."""
        return next(iter(self.modules.values()))

    @property
    def notes(self) -> list[str]:
        """Notes before the first step, one sentence each."""
        return []

    def summary(self) -> list[str]:
        """Lines for the terminal that describe model and data."""
        return []

    def snapshot(self) -> dict[str, dict[str, Tensor]]:
        """A copy of the initial weights of each module, for `reset`."""
        return {
            name: {key: value.detach().cpu().clone() for key, value in module.state_dict().items()}
            for name, module in self.modules.items()
        }

    def reset(self, folder: Path, initial: Mapping[str, Mapping[str, Tensor]]) -> list[str]:
        """Resets the modules to their initial weights.

        Args:
            folder: run folder.
            initial: result of `snapshot`.

        Returns:
            Notes on the origin of the weights.
        """
        for name, tensors in initial.items():
            load_full_state(self.modules[name], tensors)
        return []

    def starts(self, folder: Path) -> list[str]:
        """Called once before the first step of a new run; returns notes on the origin of the weights."""
        return []

    def gathered(self) -> Task:
        """The task with full modules in the main process; all processes must call it."""
        return self

    def validate(self, stage: Stage, clocks: Clocks, at_end: Clocks) -> Validation | None:
        """Validation metrics, in every process; None without validation data.

        Args:
            stage: the stage, for its loss.
            clocks: the moment.
            at_end: the end of the stage, for comparable totals.
        """
        return None

    def draw(self, folder: Path, epoch: int) -> None:
        """Saves pictures in a folder, after an epoch.

        Raises:
            DataError: the output of the module cannot be drawn.
        """
        return


class ModuleState:
    """The weights and statistics of a module, as a `Stateful`."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    def state(self) -> State:
        """The tensors by name."""
        return dict(self._module.state_dict())

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores the tensors.

        Raises:
            RuntimeError: the tensors are of another module.
        """
        load_full_state(self._module, state)
