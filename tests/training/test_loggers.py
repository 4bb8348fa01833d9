"""Metrics and pictures of a training for other programs: extras that are imported only where they are asked for."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from stand_ins import SummaryWriter, install_stand_ins
from training.runs import RECIPE

from convae.core.errors import ConfigError
from convae.core.notes import take_notes
from convae.training import Callback, Trainer, resume, train

ALL = ["tensorboard", {"wandb": {"project": "digits", "mode": "offline"}}, "trackio"]
ASKED: dict[str, Any] = {
    **RECIPE,
    "training": {**RECIPE["training"], "epochs": 2, "batch_size": 400, "pictures_every": 1, "loggers": ALL},
}


class StopAfter(Callback):
    """Stops at a step."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(self, trainer: Trainer) -> None:
        if trainer.progress.step == self._step:
            trainer.stop()


def test_a_resumed_run_is_continued_with_every_metric_and_picture(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trackers = install_stand_ins(monkeypatch)
    train(ASKED, out=tmp_path / "run", callback=StopAfter(5), quiet=True)
    run = resume(tmp_path / "run", quiet=True)
    assert "banner" not in capsys.readouterr().out
    metrics = {
        (f"{row['split']}/{name}", row["step"]): value
        for row in run.metrics
        for name, value in row.items()
        if name not in ("split", "step", "epoch") and isinstance(value, int | float)
    }
    first, second = SummaryWriter.made
    assert (first.folder, first.purge_step) == (str(tmp_path / "run" / "loggers" / "tensorboard"), 1)
    assert second.purge_step == 6
    assert first.closed
    assert second.closed
    assert {**first.scalars, **second.scalars} == metrics
    for name, tracker in trackers.items():
        assert tracker.metrics == metrics
        assert not tracker.is_open
        one, other = tracker.runs
        assert one == other  # the same name or id
        assert one["config"]["training"]["batch_size"] == 400
        assert one["project"] == {"wandb": "digits", "trackio": "convae"}[name]
        drawn = [each for each in tracker.pictures if each[0] == "reconstructions"]
        assert drawn == sorted(set(drawn), key=lambda each: each[1])
        assert len(drawn) == 2
    assert trackers["wandb"].runs[0]["mode"] == "offline"
    assert len(trackers["wandb"].runs[0]["id"]) == 8


def test_a_logger_that_fails_does_not_end_the_training(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    trackers = install_stand_ins(monkeypatch)
    trackers["wandb"].fails = True
    shorter = {**ASKED, "training": {**ASKED["training"], "epochs": 1, "loggers": ["wandb", "trackio"]}}
    run = train(shorter, out=tmp_path / "run", quiet=True)
    assert not run.stopped
    assert trackers["trackio"].metrics
    assert any("wandb" in sentence and "no connection" in sentence for sentence, _ in take_notes())


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "trackio"])
def test_a_missing_package_is_named_before_anything_is_written(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard" if name == "tensorboard" else name, None)
    asked = {**RECIPE, "training": {**RECIPE["training"], "loggers": [name]}}
    with pytest.raises(ConfigError, match=rf"pip install 'convae\[{name}\]'"):
        train(asked, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("written", "part"), [(["wandb", "wandb"], "twice"), ([{"wandb": {"mod": 1}}], "mode"), (["wandbb"], "wandb")]
)
def test_wrong_loggers_are_refused(
    written: list[Any], part: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install_stand_ins(monkeypatch)
    with pytest.raises(ConfigError, match=part):
        train({**RECIPE, "training": {**RECIPE["training"], "loggers": written}}, out=tmp_path / "run")
