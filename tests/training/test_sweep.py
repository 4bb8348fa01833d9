"""Sweeps: a run for each combination of values, and their comparison."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import pytest
from narrow import narrow, present
from PIL import Image
from training.runs import RECIPE, StopAt

from convae.core.errors import ConfigError, TrainingError
from convae.training.loop.trainer import Callback, Trainer
from convae.training.sweep import sweep
from convae.training.vae.task import VAETask

SHORT = {**RECIPE, "training": {**RECIPE["training"], "epochs": 1}, "objective": {"reconstruction": {}, "kl": {}}}


class Counter(Callback):
    """Counts steps."""

    def __init__(self) -> None:
        self.steps = 0

    def on_step_end(self, trainer: Trainer) -> None:
        self.steps += 1


def table(path: Path) -> list[dict[str, str]]:
    with (path / "table.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_sweep_trains_a_run_for_each_value_and_compares_them(tmp_path: Path) -> None:
    done = sweep(SHORT, ["objective.kl.weight=1,5", "training.batch_size=100"], out=tmp_path / "sweep")
    assert list(done.runs) == ["kl.weight=1", "kl.weight=5"]
    assert [run.recipe.objective["kl"]["weight"] for run in done.runs.values()] == [1, 5]
    assert {run.recipe.training.batch_size for run in done.runs.values()} == {100}
    rows = table(done.path)
    assert [row["run"] for row in rows] == list(done.runs)
    for row, run in zip(rows, done.runs.values(), strict=True):
        metrics = present(run.model.provenance.training).validation
        assert float(row["kl (nats)"]) == metrics["kl"]
        assert float(row["reconstruction (nats)"]) == metrics["reconstruction"]
    markdown = (done.path / "table.md").read_text()
    assert "| kl.weight=5 |" in markdown
    with Image.open(done.path / "comparison.png") as picture:
        assert picture.width > picture.height / 2 > 50


def test_totals_have_the_weights_of_the_end_whenever_the_model_was_the_best(tmp_path: Path) -> None:
    recipe = {**SHORT, "objective": {"reconstruction": {}, "kl": {"weight": {"linear": {"end": 100.0}}}}}
    done = sweep(recipe, ["training.seed=0,1", "training.epochs=3"], out=tmp_path / "sweep")
    for row, run in zip(table(done.path), done.runs.values(), strict=True):
        assert present(run.best_step) < run.metrics[-1]["step"]
        assert float(row["total (nats)"]) == pytest.approx(run.best["total"])


def test_totals_of_stages_with_other_weights_are_not_compared(tmp_path: Path) -> None:
    recipe = {**SHORT, "stages": [{"steps": 1, "objective": {"kl": {"weight": 1.0}}}]}
    recipe["training"] = {**SHORT["training"], "epochs": None}
    done = sweep(recipe, ["stages.0.objective.kl.weight=1,5"], out=tmp_path / "sweep")
    assert all("total with own weights (nats)" in row for row in table(done.path))


def test_values_that_are_unsafe_in_names_have_separate_folders(tmp_path: Path) -> None:
    one, other = "{linear: {steps: 1}}", "{linear: {steps: 2}}"
    done = sweep(
        SHORT,
        [f"objective.kl.weight={one},{other}", "training.epochs=null", "training.steps=1"],
        out=tmp_path / "sweep",
    )
    first, second = (run.path.name for run in done.runs.values())
    assert re.fullmatch(r"[-+.=,A-Za-z0-9_]+-[0-9a-f]{8}", first)
    assert first != second
    again = sweep(
        SHORT,
        [f"objective.kl.weight={one},{other}", "training.epochs=null", "training.steps=1"],
        out=tmp_path / "sweep",
    )
    assert [run.path.name for run in again.runs.values()] == [first, second]


def test_the_same_call_continues_without_repeating_runs(tmp_path: Path) -> None:
    assignments = ["training.seed=0,1", "objective.kl.weight=1,2"]
    stopped = sweep(SHORT, assignments, out=tmp_path / "sweep", callback=StopAt(3))
    assert stopped.stopped
    assert not stopped.runs
    counter = Counter()
    done = sweep(SHORT, assignments, out=tmp_path / "sweep", callback=counter)
    assert len(done.runs) == len(table(done.path)) == 4
    assert counter.steps == 4 * 7 - 3
    again = Counter()
    assert list(sweep(SHORT, assignments, out=tmp_path / "sweep", callback=again).runs) == list(done.runs)
    assert again.steps == 0


def test_a_failed_run_does_not_end_the_sweep(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fit = Trainer.fit

    def failing(self: Trainer) -> None:
        if narrow(VAETask, self.task).recipe.training.seed == 1:
            raise TrainingError("not finite")
        fit(self)

    monkeypatch.setattr(Trainer, "fit", failing)
    done = sweep(SHORT, ["training.seed=0,1,2"], out=tmp_path / "sweep")
    assert list(done.runs) == ["training.seed=0", "training.seed=2"]
    assert done.failed == {"training.seed=1": "not finite"}


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["objective.kl.weight=1"], r"several"),
        (["objective.kl.weight"], r"key\.path=value,value"),
        (["training.epochs=1,two"], r"training\.epochs"),
        (["training.seed=" + ",".join(map(str, range(40))), "training.epochs=" + "1," * 39 + "1"], "1600"),
    ],
)
def test_invalid_sweeps_are_errors_before_training(assignments: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        sweep(SHORT, assignments, out=tmp_path / "sweep")
    assert not (tmp_path / "sweep").exists()


def test_a_folder_of_another_recipe_is_an_error(tmp_path: Path) -> None:
    options: dict[str, Any] = {"out": tmp_path / "sweep", "callback": StopAt(1)}
    sweep(SHORT, ["training.seed=0,1"], **options)
    with pytest.raises(ConfigError, match=str(tmp_path / "sweep")):
        sweep({**SHORT, "objective": {"reconstruction": {}}}, ["training.seed=0,1"], **options)


def test_runs_are_announced_and_totals_of_different_weights_are_named(tmp_path: Path) -> None:
    class Messages(Callback):
        """Records messages."""

        def __init__(self) -> None:
            self.notes: list[str] = []

        def on_message(self, sentence: str) -> None:
            self.notes.append(sentence)

    messages = Messages()
    done = sweep(SHORT, ["objective.kl.weight=1,5"], out=tmp_path / "sweep", callback=messages)
    announced = [note for note in messages.notes if note.startswith("run ")]
    assert ["1 of 2" in announced[0], "kl.weight=5" in announced[1]] == [True, True]
    assert "total (nats)" not in table(done.path)[0]
    same = sweep(SHORT, ["training.seed=0,1"], out=tmp_path / "seeds")
    assert "total (nats)" in table(same.path)[0]
