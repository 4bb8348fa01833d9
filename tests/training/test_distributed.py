"""Two processes that torchrun starts share every batch, and give what one gives, up to rounding."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from training.ranks import CODED, FITS, RUNS, STOPPED_AT, fit, recipe
from training.runs import StopAt

import convae
from convae.core.errors import ConfigError, OutputError
from convae.training import resume, train
from convae.training.loop.numerics import HALVES
from convae.training.sweep import sweep

TESTS = Path(__file__).parents[1]
WHICH = {"split", "step", "epoch", "note"}


def run_ranks(count: int, folder: Path) -> None:
    """Starts the processes with what torchrun tells them."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [sys.executable, "-W", "error", str(TESTS / "training" / "ranks.py"), str(count), str(folder)]
    shared = {"PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path]), "MASTER_ADDR": "127.0.0.1"}
    environment = {**os.environ, **shared, "MASTER_PORT": str(port)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, testrun_uid: str) -> Path:
    # Made once for all that test at the same time: the others wait, since it takes both cores.
    folder = tmp_path_factory.getbasetemp().parent / f"ranks-{testrun_uid}"
    with FileLock(f"{folder}.lock"):
        if not (folder / "made").exists():
            folder.mkdir()
            train(recipe(), out=folder / "alone", callback=StopAt(STOPPED_AT))
            train(CODED, out=folder / "coded")
            fit(FITS["prior-of-codes"], folder, folder / "prior-continued", stop=3)
            run_ranks(2, folder)
            (folder / "made").touch()
    return folder


def rows(run: Path) -> list[dict[str, Any]]:
    """What was measured; a note says it where another number of processes continued."""
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row for row in found if row["split"] != "note"]


def assert_alike(one: Path, other: Path, within: float = 2e-4) -> None:
    ones, others = rows(one), rows(other)
    assert [(row["split"], row["step"]) for row in ones] == [(row["split"], row["step"]) for row in others]
    for row, same in zip(ones, others, strict=True):
        assert row.keys() == same.keys()
        for name, figure in row.items():
            if name not in WHICH:
                assert same[name] == pytest.approx(figure, rel=within, abs=within), (row["split"], row["step"], name)


@pytest.mark.long
@pytest.mark.parametrize("name", RUNS)
def test_the_curves_of_one_and_of_two_processes_agree(name: str, runs: Path, tmp_path: Path) -> None:
    run = train(RUNS[name], out=tmp_path / "one")
    assert len(run.metrics) > len(rows(runs / name)) / 2 > 4
    rounding = run.recipe.training.precision in HALVES
    assert_alike(tmp_path / "one", runs / name, 2e-2 if rounding else 2e-4)
    one, two = convae.load(run.path).state_dict(), convae.load(runs / name).state_dict()
    assert one.keys() == two.keys()
    assert all(value.allclose(two[key], rtol=1e-3, atol=1e-2 if rounding else 1e-4) for key, value in one.items())


def test_two_processes_meet_and_know_which_is_the_main_one(runs: Path) -> None:
    assert [(runs / f"met {number}").read_text() for number in range(2)] == ["2 [True, False]"] * 2


@pytest.mark.parametrize("name", ["stopped", "shard-stopped"])
def test_a_signal_to_one_process_stops_all_after_the_same_step_and_one_goes_on(name: str, runs: Path) -> None:
    last = sorted((runs / name / "checkpoints").iterdir())[-1]
    assert last.name == f"step-{STOPPED_AT:08d}-stopped"
    assert not resume(runs / name).stopped
    assert_alike(runs / "whole", runs / name)


def test_what_one_began_two_go_on_with_and_say_so(runs: Path) -> None:
    assert_alike(runs / "whole", runs / "alone")
    assert "processes 2 instead of 1" in (runs / "alone" / "metrics.jsonl").read_text()


def test_more_processes_than_images_in_a_batch_are_refused_in_one_sentence(runs: Path) -> None:
    refusal = (runs / "refusal").read_text()
    assert all(fact in refusal for fact in ("batch_size", "2 processes"))
    assert (runs / "told elsewhere").read_text() == "ReportedElsewhereError"
    assert not (runs / "refused").exists()


def test_a_launch_that_is_started_again_goes_on_with_its_own_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job-7")
    first = train(recipe(), callback=StopAt(STOPPED_AT))
    again = train(recipe())  # the same agent starts it
    assert (again.path, again.stopped) == (first.path, False)
    assert len(rows(again.path)) == 10

    monkeypatch.setattr(os, "getppid", lambda: 1)  # another agent: a launch of the same name, but a new one
    anew = train(recipe(), callback=StopAt(2))
    assert anew.path != first.path
    monkeypatch.setattr(os, "getppid", lambda: 2)  # another agent of a launch that torchrun says was restarted
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert train(recipe(), callback=StopAt(3), out=anew.path).path == anew.path

    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")  # nobody gave it a name: the agent alone tells
    with pytest.raises(OutputError, match="already exists"):
        train(recipe(), out=anew.path)


def test_a_sweep_is_not_for_several_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="torchrun"):
        sweep(recipe(), ["training.seed=1,2"], out=tmp_path)


@pytest.mark.parametrize("name", FITS)
def test_two_processes_fit_the_same_prior_as_one(name: str, runs: Path, tmp_path: Path) -> None:
    fit(FITS[name], runs, tmp_path / "one")
    one, two = resume(tmp_path / "one"), resume(runs / name)  # finished: the runs as they are
    assert_alike(tmp_path / "one", runs / name)
    own, theirs = one.model.state_dict(), two.model.state_dict()
    assert own.keys() == theirs.keys()
    assert all(torch.allclose(value, theirs[key], rtol=1e-4, atol=1e-4) for key, value in own.items())
    if name == "prior-of-codes":  # what one process began, two continued
        assert "processes 2 instead of 1" in (runs / "prior-continued" / "metrics.jsonl").read_text()
        assert resume(runs / "prior-continued").best["nll"] == pytest.approx(one.best["nll"], rel=1e-3)
