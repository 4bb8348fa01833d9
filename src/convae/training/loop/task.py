"""What the trainer trains: a task with its updates, and the objects whose state survives a stop."""

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
from convae.training.distributed.ranks import Ranks
from convae.training.distributed.sharding import load_full_state
from convae.training.recipe.plan import LearningRate, Plan, Stage
from convae.training.recipe.schema import OptimizerConfig, TrainingConfig

Loss = Callable[[Batch, CountedNoise, Clocks], Losses]
"""From a batch, its noise and the moment to the loss of an update."""
State = dict[str, Any]
"""Tensors and JSON values by name."""


@runtime_checkable
class Stateful(Protocol):
    """An object whose state survives a stop; a checkpoint knows it by a name, not by its class."""

    def state(self) -> State:
        """Everything needed to continue: tensors, which may be sharded, and JSON values, by name."""

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores what `state` gave; tensors are whole and on the CPU."""


@dataclass(frozen=True)
class Update:
    """One optimizer step within a training step.

    Attributes:
        name: in logs and checkpoints.
        module: the module whose parameters it changes.
        loss: what is minimized; its terms need names that no other update of the step uses.
        optimizer: settings of the optimizer.
        rate: the learning rate, on the clock of the optimizer.
    """

    name: str
    module: nn.Module
    loss: Loss
    optimizer: OptimizerConfig
    rate: LearningRate


@dataclass(frozen=True)
class Validation:
    """The metrics of a model on data that it is not trained on.

    Attributes:
        row: what the log shows, `total` among it.
        judged: the metrics that a stage is judged by: `total` under the weights of the stage's end, and the terms.
        terms: the mean of each term, without its weight.
        warning: a sentence on a model that trains but learns nothing, such as a collapsed posterior.
    """

    row: Mapping[str, Any]
    judged: dict[str, float]
    terms: dict[str, float]
    warning: str | None = None


@dataclass(frozen=True)
class SavedAs:
    """What a saved model records of its training.

    Attributes:
        which: of the models of the run it is, in words.
        step: after which it was saved.
        stage: the name of the running stage.
        metrics: what the stage is judged by.
    """

    which: str
    step: int
    stage: str
    metrics: dict[str, float] = field(default_factory=dict)


class Task(ABC):
    """What a trainer trains: modules, the updates of each stage, batches; how a result is judged, shown and saved.

    The trainer knows nothing else: training a VAE, fitting a prior over latents and distilling a decoder are tasks.
    `updates`, `save` and `description` are all that a task has to define.

    Attributes:
        modules: everything whose weights and statistics a checkpoint holds, on the device. The first is the main
            module: stages freeze parts of it, its moving average is taken, and its values are watched.
        plan: the stages.
        batches: the training data.
        options: batch size, seed, precision, intervals.
        device: where the modules are.
        ranks: the processes that train together.
        title: of the run.
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
        """The updates of a training step in a stage, in their order; the first is that of the main module."""

    @abstractmethod
    def save(self, path: Path, saved: SavedAs) -> None:
        """Writes the main module as an artifact, in place of the one that was there; called in the main process."""

    @abstractmethod
    def description(self) -> dict[str, Any]:
        """JSON values that the training is a function of, beside its data; checkpoints record them."""

    @property
    def main(self) -> nn.Module:
        """The first of the modules."""
        return next(iter(self.modules.values()))

    @property
    def notes(self) -> list[str]:
        """What a person should know before the first step, a sentence each."""
        return []

    def summary(self) -> list[str]:
        """Lines on what is trained, on what, for the terminal."""
        return []

    def snapshot(self) -> dict[str, dict[str, Tensor]]:
        """A copy of the initial weights of each module, which `reset` is given."""
        return {
            name: {key: value.detach().cpu().clone() for key, value in module.state_dict().items()}
            for name, module in self.modules.items()
        }

    def reset(self, folder: Path, initial: Mapping[str, Mapping[str, Tensor]]) -> list[str]:
        """Gives the modules the weights that they have before the first step.

        Args:
            folder: of the run.
            initial: what `snapshot` gave.

        Returns:
            Sentences on where they came from.
        """
        for name, tensors in initial.items():
            load_full_state(self.modules[name], tensors)
        return []

    def starts(self, folder: Path) -> list[str]:
        """Called once before the first step of a new run; returns sentences on where the weights came from."""
        return []

    def gathered(self) -> Task:
        """The task with modules that are whole in the main process; all processes have to call it."""
        return self

    def validate(self, stage: Stage, clocks: Clocks, at_end: Clocks) -> Validation | None:
        """The metrics on held-out data, in every process; None where none is held out.

        Args:
            stage: whose loss is measured.
            clocks: the moment.
            at_end: the moment at which the stage ends, under whose weights totals can be compared.
        """
        return None

    def draw(self, folder: Path, epoch: int) -> None:
        """Writes pictures into a folder, after an epoch.

        Raises:
            DataError: the module gives nothing that can be drawn.
        """
        return


class ModuleState:
    """The weights and statistics of a module, as a `Stateful`."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    def state(self) -> State:
        """The tensors by their names in the module."""
        return dict(self._module.state_dict())

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores the tensors.

        Raises:
            RuntimeError: they are of another module.
        """
        load_full_state(self._module, state)
