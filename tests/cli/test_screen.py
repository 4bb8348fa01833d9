"""What a person at a terminal sees while a command works."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
import yaml
from command import run
from rich.console import Console
from training.runs import RECIPE

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.mark.parametrize("width", [60, 80, 160])
def test_the_bar_of_a_training_shows_whole_numbers_at_any_width(
    width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.StringIO()
    monkeypatch.setattr("convae.core.console.notes", Console(file=screen, force_terminal=True, width=width))
    monkeypatch.setattr("convae.core.console.PATIENCE", -1.0)  # the bar of the store is there, too
    monkeypatch.setenv("CONVAE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    run("train", tmp_path / "recipe.yaml", "training.epochs=1", "training.log_every=1", "--out", tmp_path / "run")
    lines = CONTROL.sub("", screen.getvalue()).replace("\r", "\n").splitlines()
    assert any(line.startswith("storing digits") for line in lines)
    shown = [line for line in lines if line.startswith("epoch 1 of 1 ")]
    assert shown
    assert all(len(line) <= width and re.search(r" \d/7 ", line) and "…" not in line for line in shown)
    last = shown[-1]
    assert "7/7" in last
    assert "images/s" in last
    assert "nats" in last
    assert ("reconstruction" in last) == (width == 160)
    # One bar at a time: the other has gone when the training begins.
    before, after = (next(i for i, line in enumerate(lines) if line.startswith(word)) for word in ("storing", "epoch"))
    assert before < after
    assert not any(line.startswith("storing") for line in lines[after:])
