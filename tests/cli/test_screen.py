"""What a person at a terminal sees while a command works."""

from __future__ import annotations

import importlib.util
import io
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from command import run
from rich.console import Console
from training.runs import RECIPE

import convae
from convae.cli import _screen  # noqa: F401  # before its consoles are replaced
from convae.core import console
from convae.core.console import WorkBar

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.mark.parametrize("width", [60, 160])
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
    before, after = (next(i for i, line in enumerate(lines) if line.startswith(word)) for word in ("storing", "run "))
    assert before < after
    assert not any(line.startswith("storing") for line in lines[after:])


def test_a_log_says_the_batch_size_that_is_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "a.npy", np.random.default_rng(0).random((9, 8, 8)))
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    options = ("data.validation=0", "data.test=0", "--batch-size", 100, "--steps", 1, "training.pictures_every=0")
    run("train", tmp_path / "recipe.yaml", "--data", tmp_path / "a.npy", *options, "--out", tmp_path / "run")
    assert re.search("1 epoch of 1 step, 9 images", capsys.readouterr().err)


def test_a_log_says_at_once_what_is_trained_and_then_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("convae.training.report._FIRST_LINE", 0.0)
    monkeypatch.setattr("convae.core.console.INTERVAL", 0.0)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    run("train", tmp_path / "recipe.yaml", "--steps", 10, "training.pictures_every=1", "--out", tmp_path / "run")
    out, log = capsys.readouterr()
    assert out == f"{tmp_path / 'run'}\n"
    assert "\x1b" not in log
    lines = log.splitlines()
    assert "recipe.yaml" in lines[0]
    assert lines[1] == f"run {tmp_path / 'run'}"
    assert "1,432 training images 1×8×8" in lines[2]
    assert "parameters" in lines[3]
    assert re.search(r"cpu.* 2 epochs of 7 steps, 200 images", lines[4])
    (third,) = [line for line in lines if "step 3 of 10" in line]
    assert third.startswith("epoch 1 of 2")
    assert all(word in third for word in ("images/s", "left"))
    validations = [line for line in lines if "validation" in line and line.startswith("epoch")]
    assert [line.partition(":")[0] for line in validations] == ["epoch 1 of 2", "epoch 2 of 2, step 10"]
    assert "left" in validations[0]
    end = {line.partition(" ")[0]: line for line in lines[-5:]}
    assert "nats" in end["best"]
    assert end["pictures"].endswith(str(tmp_path / "run" / "pictures"))
    assert end["model"].endswith(str(tmp_path / "run" / "model"))
    assert f"convae sample {tmp_path / 'run'}" in end["try"]


@pytest.mark.parametrize(("threads", "others", "says"), [(2, 0.9, True), (2, 0.3, False), (1, 0.9, False)])
def test_threads_that_share_cores_with_other_processes_are_reported_once(
    threads: int,
    others: float,
    says: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("convae.training.report._OTHERS_AFTER", 0.0)
    monkeypatch.setattr("convae.training.report.OtherProcesses.cores", lambda _: others)
    monkeypatch.setattr("torch.get_num_threads", lambda: threads)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    run("train", tmp_path / "recipe.yaml", "--steps", 4, "--out", tmp_path / "run")
    lines = [line for line in capsys.readouterr().err.splitlines() if "OMP_NUM_THREADS" in line]
    assert len(lines) == says
    if says:
        assert "use 0.9 of 2 cores, and 2 threads" in lines[0]
        assert "OMP_NUM_THREADS=1 " in lines[0]


def test_long_work_is_a_line_now_and_then_in_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, now = io.StringIO(), 0.0
    monkeypatch.setattr("convae.core.console.time.monotonic", lambda: now)
    monkeypatch.setattr("convae.core.console.notes", Console(file=screen))
    work = WorkBar()
    for now in range(66):
        work(now, 100, "storing photos")
    assert [line.partition(",")[0] for line in screen.getvalue().splitlines()] == [
        f"storing photos: {second} of 100" for second in (2, 32, 62)
    ]


def test_a_call_from_python_shows_a_bar_to_a_person_and_nothing_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = {**RECIPE, "training": {**RECIPE["training"], "epochs": 1, "pictures_every": 1}}
    convae.train(recipe, out=tmp_path / "log")
    assert capsys.readouterr().err == ""
    for module in "execution", "report":
        monkeypatch.setattr(f"convae.training.{module}.has_viewer", lambda: True)
    convae.train(recipe, out=tmp_path / "quiet", quiet=True)
    assert capsys.readouterr().err == ""
    done = convae.train(recipe, out=tmp_path / "shown")
    assert str(tmp_path / "shown") in capsys.readouterr().err
    assert repr(done).startswith(f"Run('{tmp_path / 'shown'}'")
    assert "\n" not in repr(done)
    page = done._repr_html_()
    assert str(done.path) in page
    assert "reconstruction" in page
    assert page.count("data:image/png;base64,") == 2


@pytest.mark.parametrize("installed", [True, False])
def test_a_notebook_has_a_bar_where_ipywidgets_draws_it(installed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console.notes, "is_jupyter", True)
    spec = importlib.util.find_spec("rich") if installed else None
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: spec)
    assert console.has_viewer() is installed
