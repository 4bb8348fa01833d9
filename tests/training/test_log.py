"""The log of a run: what it says, when, and what reading it costs."""

from __future__ import annotations

import csv
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training.runs import RECIPE, StopAt

from convae.training import resume, train
from convae.training.loop.counters import Counters
from convae.training.loop.log import MOST_POINTS, Curves, RunLog
from convae.training.loop.trainer import Callback, Trainer
from convae.training.recipe.reading import read_recipe
from convae.training.recipe.stages import build_plan
from convae.training.run_folder import RunFolder

PER_EPOCH = 7


def recipe(**training: Any) -> dict[str, Any]:
    return {**RECIPE, "training": {**RECIPE["training"], **training}}


@pytest.mark.parametrize("validation", [0, 0.1])
def test_each_epoch_ends_with_a_row_of_training_and_its_pictures(validation: float, tmp_path: Path) -> None:
    options = {
        **recipe(log_every=50, pictures_every=1, epochs=2),
        "data": {"source": "digits", "validation": validation},
    }
    run = train(options, out=tmp_path / "run")
    rows = [row for row in run.metrics if row["split"] == "train"]
    assert [row["epoch"] for row in rows] == [1, 2]
    assert run.notes == []
    names = {path.name for path in run.pictures.iterdir()}
    assert {"curves.png", "epoch-0001-reconstructions.png", "epoch-0002-samples.png"} <= names


class Rates(Callback):
    """The learning rate of each step, as the optimizer had it."""

    def __init__(self, *stops: int) -> None:
        self.used: dict[int, float] = {}
        self.stops = stops

    def on_step_end(self, trainer: Trainer) -> None:
        rate = trainer.engine.rate
        self.used.setdefault(trainer.progress.step, rate)
        if trainer.progress.step in self.stops:
            trainer.stop()


STAGES = [{"steps": 5}, {"steps": 4, "optimizer": {"lr": 5e-3, "schedule": "cosine", "warmup": 0.5}}, {"epochs": 1}]


@pytest.mark.parametrize(
    "options",
    [
        recipe(optimizer={"warmup": 0.3, "lr": 1e-2}),
        {**recipe(epochs=None, accumulate=2), "stages": STAGES},
    ],
    ids=["warm-up", "stages"],
)
@pytest.mark.parametrize("every", [1, 4])
def test_the_learning_rate_of_a_row_is_that_of_its_last_step(
    every: int, options: dict[str, Any], tmp_path: Path
) -> None:
    rates = Rates(3, 9)
    options = {**options, "training": {**options["training"], "log_every": every}}
    run = train(options, out=tmp_path / "run", callback=rates)
    while run.stopped:
        run = resume(run.path, callback=rates)
    rows = [row for row in run.metrics if row["split"] == "train"]
    # A stage that begins with the next step may have set its optimizer's rate already, but not used it.
    used = {row["step"]: row["lr"] for row in rows}
    made = build_plan(run.recipe, PER_EPOCH)
    assert used == pytest.approx(
        {step: made.learning_rate(made.stage_starts(step - 1), step - 1) for step in used}, rel=1e-12
    )
    if "stages" not in options:
        assert used == {step: rates.used[step] for step in used}
    assert all(rate > 0 for rate in used.values())


def log(folder: Path, rows: int) -> RunFolder:
    """A run folder with a log of so many rows."""
    folder.mkdir()
    line = {"split": "train", "step": 0, "epoch": 0.0, "total": 1.0, "reconstruction": 0.7, "kl": 0.3, "lr": 1e-3}
    with (folder / "metrics.jsonl").open("w") as file:
        for step in range(rows):
            file.write(json.dumps({**line, "step": step, "epoch": step / 100, "total": float(step)}) + "\n")
    return RunFolder(folder)


def drawn(folder: RunFolder) -> None:
    Curves(folder, build_plan(read_recipe(RECIPE), PER_EPOCH), "run").draw(Counters())


@pytest.mark.parametrize("work", [drawn, lambda folder: RunLog(folder, PER_EPOCH, True).tabulate()])
def test_a_longer_log_takes_no_more_memory(work: Callable[[RunFolder], None], tmp_path: Path) -> None:
    work(log(tmp_path / "first", 10))  # imports
    peaks = []
    for rows in (4_000, 16_000):
        folder = log(tmp_path / str(rows), rows)
        tracemalloc.start()
        work(folder)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]


def test_curves_read_what_is_new_and_show_all_of_it(tmp_path: Path) -> None:
    folder = log(tmp_path / "run", 3 * MOST_POINTS)
    curves = Curves(folder, build_plan(read_recipe(RECIPE), PER_EPOCH), "run")
    curves.draw(Counters())
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"split": "train", "step": 1, "epoch": 500.0, "total": -1.0}) + "\n" + '{"split": "tr')
    figure = curves.draw(Counters())
    assert figure is not None
    x, y = map(np.asarray, figure.axes[0].lines[0].get_data())
    assert len(x) <= MOST_POINTS
    assert x[0] < 0.1
    assert x[-1] > 60
    # Each point is a mean of neighbors.
    assert y[10] == pytest.approx(100 * x[10], abs=1e-6)


def test_the_table_holds_what_the_log_holds(tmp_path: Path) -> None:
    run = train(recipe(epochs=1), out=tmp_path / "run", callback=StopAt(3))
    run = resume(run.path)
    with (run.path / "metrics.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [int(row["step"]) for row in table] == [row["step"] for row in run.metrics]
