"""What the commands that train have in common: options, and what they print at the end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from convae.core.errors import ConfigError

if TYPE_CHECKING:
    from convae.training import Run


@dataclass(frozen=True)
class LengthOptions:
    """Length and optimizer of a training."""

    panel: ClassVar = "Training"
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None
    steps: Annotated[int | None, typer.Option(help="Optimizer steps, instead of epochs.")] = None
    minutes: Annotated[float | None, typer.Option(help="Time limit.")] = None
    batch_size: Annotated[int | None, typer.Option(help="Images per step.")] = None
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None
    seed: Annotated[int | None, typer.Option(help="Random seed of weights, order and noise.")] = None
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps.")] = None

    def keys(self) -> dict[str, Any]:
        """Values by the path of their recipe key."""
        if self.epochs is not None and self.steps is not None:
            raise ConfigError("--epochs and --steps both set the length of the training: give one of them")
        names = ("epochs", "steps", "minutes", "batch_size", "seed", "device")
        return {f"training.{name}": getattr(self, name) for name in names} | {"training.optimizer.lr": self.lr}


@dataclass(frozen=True)
class PlaceOptions:
    """The images, and the run folder."""

    panel: ClassVar = "Run"
    data: Annotated[str | None, typer.Option(help="Images instead of the training data of the model.")] = None
    data_dir: Annotated[Path | None, typer.Option(help="Folder that holds data sets.")] = None
    name: Annotated[str | None, typer.Option(help="Name of the run, and of its folder in runs/.")] = None
    out: Annotated[Path | None, typer.Option(help="The run folder, new or empty; otherwise a new one in runs/.")] = None

    def keys(self) -> dict[str, Any]:
        """Values by the path of their recipe key."""
        from convae.cli._parsing import data_source

        return {
            "name": self.name,
            "data.source": None if self.data is None else data_source(self.data, "--data"),
            "data.dir": None if self.data_dir is None else str(self.data_dir),
        }


def overrides_of(given: Mapping[str, Any]) -> list[str]:
    """Options by the path of their recipe key, as overrides of a recipe; those that are None are left out."""
    return [f"{key}={json.dumps(value)}" for key, value in given.items() if value is not None]


def finish(run: Run) -> int:
    """Prints how a training ended.

    Returns:
        The exit code.
    """
    from convae.cli._screen import notes, wrote
    from convae.core.trust import trust_options
    from convae.training.result import report_end

    if not run.is_main:
        return 130 if run.stopped and not run.out_of_time else 0
    if run.stopped:
        reason = "time is up" if run.out_of_time else "stopped and saved"
        notes.print(f"{reason}; continue with: convae train --resume {run.path}{trust_options()}", soft_wrap=True)
        if not run.out_of_time:
            return 130
    report_end(run)
    wrote(run.path)
    return 0
