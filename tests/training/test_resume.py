"""A run that was stopped at any step and resumed is the unbroken run, bit for bit."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from command import run
from narrow import present
from training.runs import EVERYTHING, RECIPE, StopAt, content

import convae
from convae.core.errors import ArtifactError, OutputError
from convae.training import resume, train
from convae.training.loop.trainer import Callback, Trainer

STEPS = 21  # 1,432 digits are left for training: 7 batches of 200 in each of 3 epochs
ALL_STEPS = 12


class Notes(Callback):
    """What an callback is told in words."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def on_message(self, sentence: str) -> None:
        self.sentences.append(sentence)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    path = tmp_path_factory.mktemp("unbroken") / "run"
    made = train(RECIPE, out=path)
    assert not made.stopped
    assert made.metrics[-1]["step"] == STEPS
    return content(path)


def test_a_run_resumed_at_every_step_equals_the_unbroken_one(tmp_path: Path) -> None:
    train(EVERYTHING, out=tmp_path / "unbroken")
    made = train(EVERYTHING, out=tmp_path / "run", callback=StopAt(1))
    for step in range(2, ALL_STEPS + 1):
        assert made.stopped
        assert "convae train --resume" in (tmp_path / "run" / "README.md").read_text()
        made = resume(tmp_path / "run", callback=StopAt(step))
    assert not made.stopped
    # Both wrote and kept a checkpoint after every step.
    assert len(list((tmp_path / "run" / "checkpoints").iterdir())) == ALL_STEPS
    for file in sorted((tmp_path / "unbroken" / "checkpoints").rglob("*.*")):
        again = tmp_path / "run" / file.relative_to(tmp_path / "unbroken")
        assert again.read_bytes() == file.read_bytes(), again
    assert content(tmp_path / "run") == content(tmp_path / "unbroken")


HIERARCHY = {
    **RECIPE,
    "model": {"preset": "ladder", "input": [1, 8, 8], "latent": 3, "size": "tiny"},
    "objective": {"reconstruction": {}, "kl": {"balance": True}},
    "training": {**RECIPE["training"], "epochs": None, "steps": 4, "ema": 0.9, "checkpointing": True},
}


def test_a_hierarchy_resumes_as_the_unbroken_run(tmp_path: Path) -> None:
    train(HIERARCHY, out=tmp_path / "unbroken")
    train(HIERARCHY, out=tmp_path / "run", callback=StopAt(2))
    resume(tmp_path / "run")
    assert content(tmp_path / "run") == content(tmp_path / "unbroken")


def test_rows_that_a_lost_run_wrote_after_its_last_checkpoint_are_not_kept(
    unbroken: dict[str, bytes], tmp_path: Path
) -> None:
    train(RECIPE, out=tmp_path / "run", callback=StopAt(9))
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"split": "train", "step": 12, "total": 1.0}) + "\n")
    resume(tmp_path / "run")
    assert content(tmp_path / "run") == unbroken


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_sigterm_and_a_closed_terminal_save_and_the_run_goes_on(
    number: signal.Signals, unbroken: dict[str, bytes], tmp_path: Path
) -> None:
    class Signal(Callback):
        def on_step_end(self, trainer: Trainer) -> None:
            if trainer.progress.step == 5:
                os.kill(os.getpid(), number)

    # As in a terminal, also where the suite runs under nohup, which ignores SIGHUP.
    default = signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL
    before = signal.signal(number, default)
    try:
        assert train(RECIPE, out=tmp_path / "run", callback=Signal()).stopped
        assert signal.getsignal(number) is default
    finally:
        signal.signal(number, before)
    resume(tmp_path / "run")
    assert content(tmp_path / "run") == unbroken


def test_a_hangup_that_is_ignored_stays_ignored(unbroken: dict[str, bytes], tmp_path: Path) -> None:
    class Signal(Callback):
        def on_step_end(self, trainer: Trainer) -> None:
            if trainer.progress.step == 5:
                os.kill(os.getpid(), signal.SIGHUP)

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert not train(RECIPE, out=tmp_path / "run", callback=Signal()).stopped
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert content(tmp_path / "run") == unbroken


def test_a_finished_run_is_left_as_it_is(unbroken: dict[str, bytes], tmp_path: Path) -> None:
    train(RECIPE, out=tmp_path / "run")
    assert not resume(tmp_path / "run").stopped
    assert content(tmp_path / "run") == unbroken


def test_a_run_that_died_after_its_last_checkpoint_gets_its_files(tmp_path: Path) -> None:
    path = train(RECIPE, out=tmp_path / "run").path
    names = ("metrics.csv", "README.md")
    whole = {name: (path / name).read_bytes() for name in names}
    (path / "metrics.csv").unlink()
    (path / "README.md").write_text("Training has begun.\n", encoding="utf-8")
    assert not resume(path).stopped
    assert {name: (path / name).read_bytes() for name in names} == whole


def damage(checkpoint: Path) -> None:
    tensors = bytearray((checkpoint / "tensors.safetensors").read_bytes())
    tensors[-5] ^= 1
    (checkpoint / "tensors.safetensors").write_bytes(tensors)


def test_the_last_good_checkpoint_is_used_and_said(
    unbroken: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(RECIPE, out=tmp_path / "run", callback=StopAt(17))
    _, good, damaged = sorted((tmp_path / "run" / "checkpoints").iterdir())
    assert (good.name, damaged.name) == ("step-00000014", "step-00000017-stopped")
    damage(damaged)
    run("train", "--resume", tmp_path / "run")
    said = [line for line in capsys.readouterr().err.splitlines() if "damaged" in line]
    assert len(said) == 1
    assert "step-00000017-stopped/tensors.safetensors" in said[0]
    assert "from step 14" in said[0]
    assert content(tmp_path / "run") == unbroken


def test_a_run_without_a_good_checkpoint_is_refused(tmp_path: Path) -> None:
    train(RECIPE, out=tmp_path / "run", callback=StopAt(8))
    first, second = sorted((tmp_path / "run" / "checkpoints").iterdir())
    damage(first)
    (second / "state.json").unlink()
    with pytest.raises(ArtifactError, match=r"damaged.*no usable checkpoint is left"):
        resume(tmp_path / "run")


def test_a_changed_state_is_refused(tmp_path: Path) -> None:
    train(RECIPE, out=tmp_path / "run", callback=StopAt(3))
    (checkpoint,) = (tmp_path / "run" / "checkpoints").iterdir()
    state = json.loads((checkpoint / "state.json").read_text())
    state["values"]["progress"]["step"] = 2
    (checkpoint / "state.json").write_text(json.dumps(state))
    with pytest.raises(ArtifactError, match="damaged or edited"):
        resume(tmp_path / "run")


def test_a_log_that_lost_its_end_takes_the_run_back(unbroken: dict[str, bytes], tmp_path: Path) -> None:
    train(RECIPE, out=tmp_path / "run", callback=StopAt(15))
    log = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    (tmp_path / "run" / "metrics.jsonl").write_bytes(log[:-10])
    notes = Notes()
    resume(tmp_path / "run", callback=notes)
    assert "metrics.jsonl" in notes.sentences[0]
    assert "step 15" in notes.sentences[0]
    assert content(tmp_path / "run") == unbroken


@pytest.mark.parametrize("damage", ["lost", "empty", "first rows", "garbage"])
def test_a_lost_log_costs_rows_but_no_training(damage: str, unbroken: dict[str, bytes], tmp_path: Path) -> None:
    run = train(RECIPE, out=tmp_path / "run", callback=StopAt(15))
    before, log = run.metrics, tmp_path / "run" / "metrics.jsonl"
    rows = log.read_bytes().splitlines(keepends=True)
    kept = 0 if damage in ("lost", "empty") else 2
    if damage == "lost":
        log.unlink()
    else:
        log.write_bytes(b"".join(rows[:kept]) + (b"\0" * sum(map(len, rows)) if damage == "garbage" else b""))
    notes = Notes()
    run = resume(run.path, callback=notes)
    assert [each for each in notes.sentences if "metrics.jsonl" in each] == notes.sentences[:1]
    assert run.metrics[:kept] == before[:kept]
    assert all(row["step"] >= 15 for row in run.metrics[kept:])
    assert run.metrics[-1]["step"] == STEPS
    ours = content(run.path)
    assert all(ours[name] == unbroken[name] for name in ours if name.endswith(".safetensors"))


def test_only_one_process_at_a_time_trains_into_a_folder(tmp_path: Path) -> None:
    class Another(Callback):
        def on_train_start(self, trainer: Trainer) -> None:
            with pytest.raises(OutputError, match="another process is training into this folder"):
                resume(tmp_path / "run")

    train(RECIPE, out=tmp_path / "run", callback=Another(), overrides=["training.steps=1"])


def test_what_a_dead_process_left_is_cleared_away(tmp_path: Path) -> None:
    train(RECIPE, out=tmp_path / "run", callback=StopAt(3))
    for name in (".model.77.tmp", "checkpoints/.step-00000007.77.tmp"):
        (tmp_path / "run" / name).mkdir()
    (tmp_path / "run" / "pictures" / ".curves.png.77.tmp").touch()
    with (tmp_path / "run" / "timings.jsonl").open("a") as file:
        file.write('{"epoch": 1, "st')
    resume(tmp_path / "run", callback=StopAt(8))
    assert not list((tmp_path / "run").rglob("*.tmp"))
    for line in (tmp_path / "run" / "timings.jsonl").read_text().splitlines():
        assert 0 <= json.loads(line)["waiting_for_data"] <= 1


def test_a_folder_in_which_a_run_died_before_it_began_is_free(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").touch()
    (tmp_path / "run" / ".recipe.yaml.77.tmp").touch()
    train(RECIPE, out=tmp_path / "run", overrides=["training.steps=1"])
    with pytest.raises(OutputError, match="already exists"):
        train(RECIPE, out=tmp_path / "run")


def test_a_log_whose_last_row_is_cut_short_can_be_read(tmp_path: Path) -> None:
    made = train(RECIPE, out=tmp_path / "run", callback=StopAt(8))
    rows = made.metrics
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"split": "tra')
    assert made.metrics == rows
    (tmp_path / "run" / "metrics.jsonl").write_text("{\n")
    with pytest.raises(ArtifactError, match=r"metrics\.jsonl: damaged"):
        assert made.metrics


def test_what_is_no_run_cannot_be_resumed(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not a run folder"):
        resume(tmp_path)


def test_the_callers_random_state_is_left_alone(tmp_path: Path) -> None:
    import torch

    torch.manual_seed(3)
    before = torch.get_rng_state()
    train({**RECIPE, "training": {**RECIPE["training"], "steps": 2}}, out=tmp_path / "run")
    assert torch.equal(before, torch.get_rng_state())


def test_the_best_model_is_what_the_run_gives(tmp_path: Path) -> None:
    made = train(RECIPE, out=tmp_path / "run")
    best = min(row["total_at_end"] for row in made.metrics if row["split"] == "validation")
    assert present(made.model.provenance.training).validation["total"] == best
    assert convae.load(tmp_path / "run").name == made.model.name
