"""Stand-ins for packages that are not installed here: they keep what they are given, and require what the originals do.

The loggers were compared with the originals by `check_logger`, with these packages installed: wandb 0.31, trackio 0.43.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image


class SummaryWriter:
    """That of TensorBoard."""

    made: list[SummaryWriter]

    def __init__(self, folder: str, purge_step: int) -> None:
        self.folder, self.purge_step = folder, purge_step
        self.scalars: dict[tuple[str, int], float] = {}
        self.images: list[tuple[str, int]] = []
        self.closed = False
        SummaryWriter.made.append(self)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.scalars[name, step] = value

    def add_image(self, name: str, image: np.ndarray[Any, Any], step: int, dataformats: str) -> None:
        assert dataformats == "HWC"
        assert image.ndim == 3
        assert image.dtype == np.uint8
        self.images.append((name, step))

    def close(self) -> None:
        self.closed = True


class Picture:
    """An image that was logged."""

    def __init__(self, path: str) -> None:
        with Image.open(path) as image:
            self.size = image.size


class Tracker(ModuleType):
    """A module with `init`, `log` and `finish`.

    Attributes:
        runs: arguments of each `init`.
        metrics: value by name and step, of all runs.
        pictures: names and steps of the images.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.runs: list[dict[str, Any]] = []
        self.metrics: dict[tuple[str, int], float] = {}
        self.pictures: list[tuple[str, int]] = []
        self.is_open = self.fails = False
        self.Image = Picture

    def init(self, *, project: str, name: str, config: dict[str, Any], resume: str, **more: Any) -> None:
        assert not self.is_open
        assert resume == "allow"
        print("the banner of a tracker")  # noqa: T201
        self.runs.append({"project": project, "name": name, "config": config, **more})
        self.is_open = True

    def log(self, metrics: dict[str, Any], step: int | None = None) -> None:
        assert self.is_open
        assert step is not None
        if self.fails:
            raise OSError("no connection")
        for name, value in metrics.items():
            if isinstance(value, Picture):
                self.pictures.append((name, step))
            else:
                self.metrics[name, step] = value

    def finish(self) -> None:
        assert self.is_open
        self.is_open = False


def install_stand_ins(monkeypatch: pytest.MonkeyPatch) -> dict[str, Tracker]:
    """Replaces TensorBoard, wandb and trackio."""
    board = ModuleType("torch.utils.tensorboard")
    board.SummaryWriter = SummaryWriter  # type: ignore[attr-defined]
    SummaryWriter.made = []
    monkeypatch.setitem(sys.modules, board.__name__, board)
    trackers = {name: Tracker(name) for name in ("wandb", "trackio")}
    for name, module in trackers.items():
        monkeypatch.setitem(sys.modules, name, module)
    return trackers
