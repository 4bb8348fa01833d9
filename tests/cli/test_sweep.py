"""`convae sweep` as a user calls it."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
import yaml
from command import run
from rich.console import Console
from training.runs import RECIPE

from convae.cli import _screen
from convae.core.errors import TrainingError
from convae.training.loop.trainer import Trainer
from convae.training.report import TrainingReport


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe of one step."""
    options = {**RECIPE["training"], "epochs": None, "steps": 1}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({**RECIPE, "objective": {"reconstruction": {}, "kl": {}}, "training": options}))
    return path


def test_a_sweep_prints_its_table_and_goes_on_with_what_is_done(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("sweep", recipe, "objective.kl.weight=1,5", "--out", tmp_path / "sweep")
    run(*arguments)
    printed = capsys.readouterr().out
    assert str(tmp_path / "sweep") in printed
    for label in ("kl.weight=1", "kl.weight=5"):
        assert label in printed

    monkeypatch.setattr(Trainer, "fit", lambda _: pytest.fail("a run that is done was trained again"))
    screen = io.StringIO()
    monkeypatch.setattr(_screen, "results", Console(file=screen, force_terminal=True, width=160))
    run(*arguments)
    with (tmp_path / "sweep" / "table.csv").open(newline="") as file:
        first = next(csv.DictReader(file))
    assert "kl.weight=1" in screen.getvalue()
    assert f"{float(first['kl (nats)']):.5g}" in screen.getvalue()


def test_a_sweep_that_is_stopped_says_so_by_its_exit_code(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrainingReport, "on_step_end", lambda _, trainer: trainer.stop())
    run("sweep", recipe, "training.steps=2,3", "--out", tmp_path / "sweep", code=130)


def test_runs_that_fail_are_named_with_the_reason(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Trainer) -> None:
        raise TrainingError("the losses are not finite")

    monkeypatch.setattr(Trainer, "fit", fail)
    run("sweep", recipe, "training.seed=0,1", "--out", tmp_path / "sweep", code=1)
    told = capsys.readouterr().err
    for label in ("training.seed=0", "training.seed=1"):
        assert f"{label}: the losses are not finite" in told


@pytest.mark.parametrize(
    ("assignment", "said"),
    [("training.seed=1", "several"), ("training.sed=1,2", "sed"), ("training.epochs=1,two", "epochs")],
)
def test_what_cannot_be_swept_is_refused(
    assignment: str, said: str, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("sweep", recipe, assignment, "--out", tmp_path / "sweep", code=2)
    assert said in capsys.readouterr().err
    assert not (tmp_path / "sweep").exists()
