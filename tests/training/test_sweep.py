"""A sweep: a run for each value, none twice, and what came of them side by side."""

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
    """How many steps were done."""

    def __init__(self) -> None:
        self.steps = 0

    def on_step_end(self, trainer: Trainer) -> None:
        self.steps += 1


def table(path: Path) -> list[dict[str, str]]:
    with (path / "table.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_for_each_value_and_what_came_of_them(tmp_path: Path) -> None:
    done = sweep(SHORT, ["objective.kl.weight=1,5", "training.batch_size=100"], out=tmp_path / "sweep")
    assert list(done.runs) == ["kl.weight=1", "kl.weight=5"]
    assert [run.recipe.objective["kl"]["weight"] for run in done.runs.values()] == [1, 5]
    assert {run.recipe.training.batch_size for run in done.runs.values()} == {100}
    rows = table(done.path)
    assert [row["run"] for row in rows] == list(done.runs)
    for row, run in zip(rows, done.runs.values(), strict=True):
        figures = present(run.model.provenance.training).validation
        assert float(row["kl (nats)"]) == figures["kl"]
        assert float(row["reconstruction (nats)"]) == figures["reconstruction"]
    markdown = (done.path / "table.md").read_text()
    assert "| kl.weight=5 |" in markdown
    with Image.open(done.path / "comparison.png") as picture:
        assert picture.width > picture.height / 2 > 50


def test_values_that_no_folder_name_can_hold_have_folders_of_their_own(tmp_path: Path) -> None:
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


def test_the_same_call_goes_on_and_repeats_nothing(tmp_path: Path) -> None:
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


def test_a_run_that_fails_does_not_end_the_sweep(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
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
        (["objective.kl.weight=1"], "several values"),
        (["objective.kl.weight"], r"key\.path=value,value"),
        (["training.epochs=1,two"], r"training\.epochs"),
        (["training.seed=" + ",".join(map(str, range(40))), "training.epochs=" + "1," * 39 + "1"], "1600 combinations"),
    ],
)
def test_what_cannot_be_swept_is_refused_before_anything_is_trained(
    assignments: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        sweep(SHORT, assignments, out=tmp_path / "sweep")
    assert not (tmp_path / "sweep").exists()


def test_a_folder_of_another_recipe_is_left_alone(tmp_path: Path) -> None:
    options: dict[str, Any] = {"out": tmp_path / "sweep", "callback": StopAt(1)}
    sweep(SHORT, ["training.seed=0,1"], **options)
    with pytest.raises(ConfigError, match="another recipe"):
        sweep({**SHORT, "objective": {"reconstruction": {}}}, ["training.seed=0,1"], **options)


def test_every_run_is_announced_and_totals_of_other_weights_are_not_one_column(tmp_path: Path) -> None:
    class Heard(Callback):
        """What a person is told."""

        def __init__(self) -> None:
            self.notes: list[str] = []

        def on_message(self, sentence: str) -> None:
            self.notes.append(sentence)

    heard = Heard()
    done = sweep(SHORT, ["objective.kl.weight=1,5"], out=tmp_path / "sweep", callback=heard)
    announced = [note for note in heard.notes if note.startswith("run ")]
    assert ["1 of 2" in announced[0], "kl.weight=5" in announced[1]] == [True, True]
    assert "total (nats)" not in table(done.path)[0]
    same = sweep(SHORT, ["training.seed=0,1"], out=tmp_path / "seeds")
    assert "total (nats)" in table(same.path)[0]
