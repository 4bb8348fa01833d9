"""Figures for TensorBoard: an extra that is imported only where it is asked for."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from training.runs import RECIPE

from convae.core.errors import ConfigError
from convae.training import train

ASKED: dict[str, Any] = {**RECIPE, "training": {**RECIPE["training"], "epochs": 1, "tensorboard": True}}


class Writer:
    """Keeps what TensorBoard's own class would write."""

    made: list[Writer]

    def __init__(self, folder: str, purge_step: int) -> None:
        self.folder, self.purge_step = folder, purge_step
        self.scalars: dict[tuple[str, int], float] = {}
        self.closed = False
        Writer.made.append(self)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.scalars[name, step] = value

    def close(self) -> None:
        self.closed = True


def test_every_figure_of_the_log_is_a_scalar(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    Writer.made = []
    run = train(ASKED, out=tmp_path / "run")
    (writer,) = Writer.made
    assert (writer.folder, writer.purge_step, writer.closed) == (str(tmp_path / "run" / "tensorboard"), 1, True)
    for row in run.metrics:
        assert writer.scalars[f"{row['split']}/total", row["step"]] == row["total"]
    assert not any("per_unit" in name or "epoch" in name for name, _ in writer.scalars)


def test_without_it_the_extra_is_named_before_anything_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match=r"pip install 'convae\[tensorboard\]'"):
        train(ASKED, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
