"""A run that was stopped at any step and resumed is the unbroken run, bit for bit."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from training.runs import RECIPE, StopAt, content

import convae
from convae.core.errors import ArtifactError
from convae.training import resume, train
from convae.training.trainer import Observer, Trainer

STEPS = 21  # 1,437 digits are left for training: 7 batches of 200 in each of 3 epochs


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    path = tmp_path_factory.mktemp("unbroken") / "run"
    run = train(RECIPE, out=path)
    assert not run.stopped
    assert run.metrics[-1]["step"] == STEPS
    return content(path)


@pytest.mark.parametrize("step", [1, 3, 4, 6, 7, 8, 13, 14, 18, 20])
def test_a_resumed_run_equals_the_unbroken_one(step: int, unbroken: dict[str, bytes], tmp_path: Path) -> None:
    stopped = train(RECIPE, out=tmp_path / "run", observer=StopAt(step))
    assert stopped.stopped
    assert "convae train --resume" in (tmp_path / "run" / "README.md").read_text()
    assert not resume(tmp_path / "run").stopped
    assert content(tmp_path / "run") == unbroken


def test_a_run_may_be_stopped_at_every_step(unbroken: dict[str, bytes], tmp_path: Path) -> None:
    train(RECIPE, out=tmp_path / "run", observer=StopAt(2))
    for step in range(4, STEPS, 2):
        assert resume(tmp_path / "run", observer=StopAt(step)).stopped
    resume(tmp_path / "run")
    assert content(tmp_path / "run") == unbroken


def test_rows_that_a_lost_run_wrote_after_its_last_checkpoint_are_not_kept(
    unbroken: dict[str, bytes], tmp_path: Path
) -> None:
    train(RECIPE, out=tmp_path / "run", observer=StopAt(9))
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"split": "train", "step": 12, "total": 1.0}) + "\n")
    resume(tmp_path / "run")
    assert content(tmp_path / "run") == unbroken


def test_ctrl_c_saves_and_the_run_goes_on(unbroken: dict[str, bytes], tmp_path: Path) -> None:
    class CtrlC(Observer):
        def stepped(self, trainer: Trainer) -> None:
            if trainer.state.step == 5:
                os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    assert train(RECIPE, out=tmp_path / "run", observer=CtrlC()).stopped
    assert signal.getsignal(signal.SIGINT) is before
    resume(tmp_path / "run")
    assert content(tmp_path / "run") == unbroken


def test_a_finished_run_is_left_as_it_is(unbroken: dict[str, bytes], tmp_path: Path) -> None:
    train(RECIPE, out=tmp_path / "run")
    assert not resume(tmp_path / "run").stopped
    assert content(tmp_path / "run") == unbroken


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    train(RECIPE, out=tmp_path / "run", observer=StopAt(3))
    (checkpoint,) = (tmp_path / "run" / "checkpoints").iterdir()
    tensors = bytearray((checkpoint / "tensors.safetensors").read_bytes())
    tensors[-5] ^= 1
    (checkpoint / "tensors.safetensors").write_bytes(tensors)
    with pytest.raises(ArtifactError, match="damaged"):
        resume(tmp_path / "run")


def test_what_is_no_run_cannot_be_resumed(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no run folder"):
        resume(tmp_path)


def test_the_callers_random_state_is_left_alone(tmp_path: Path) -> None:
    import torch

    torch.manual_seed(3)
    before = torch.get_rng_state()
    train({**RECIPE, "training": {**RECIPE["training"], "steps": 2}}, out=tmp_path / "run")
    assert torch.equal(before, torch.get_rng_state())


def test_the_best_model_is_what_the_run_gives(tmp_path: Path) -> None:
    run = train(RECIPE, out=tmp_path / "run")
    best = min(row["total_at_end"] for row in run.metrics if row["split"] == "validation")
    assert run.model.metadata["training"]["validation"]["total"] == best
    assert convae.load(tmp_path / "run").name == run.model.name


def test_random_changes_of_images_survive_a_stop(tmp_path: Path) -> None:
    augmented = {
        **RECIPE,
        "data": {"source": "digits", "augment": {"zoom": 0.1, "shear": 0.1}},
        "training": {**RECIPE["training"], "epochs": 2, "augmentation": {"linear": {"start": 1, "end": 0}}},
    }
    train(augmented, out=tmp_path / "unbroken")
    train(augmented, out=tmp_path / "run", observer=StopAt(10))
    resume(tmp_path / "run")
    assert content(tmp_path / "run") == content(tmp_path / "unbroken")
