"""Stages: what is frozen does not move, plateaus end them, and a stopped run goes on in the middle of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from narrow import present
from training.runs import RECIPE, StopAt, content, model_of

from convae.core.errors import ConfigError
from convae.training import resume, train
from convae.training.loop.checkpoint import list_checkpoints, read_checkpoint
from convae.training.loop.trainer import Callback, Trainer
from convae.training.run_folder import RunFolder

PER_EPOCH = 7


def staged(*stages: dict[str, Any], **training: Any) -> dict[str, Any]:
    options = {**RECIPE["training"], **training}
    return {**RECIPE, "training": {key: value for key, value in options.items() if key != "epochs"}, "stages": stages}


STAGES = staged(
    {"epochs": 1},
    {"steps": 5, "freeze": ["encoder", "bottleneck"], "objective": {"kl": 0}, "optimizer": {"lr": 1e-3}},
    {"epochs": 4, "until": {"plateau": {"metric": "kl", "patience": 1, "threshold": 10.0}}, "freeze": ["decoder.0.*"]},
)
ENDS = [7, 12, 21]  # the last stage: its first figure at step 14, none better at 21


class Weights(Callback):
    """Copies of the model's values after chosen steps."""

    def __init__(self, *steps: int) -> None:
        self.steps = steps
        self.at: dict[int, dict[str, torch.Tensor]] = {}

    def on_step_end(self, trainer: Trainer) -> None:
        if trainer.progress.step in self.steps:
            values = model_of(trainer).state_dict()
            self.at[trainer.progress.step] = {name: value.clone() for name, value in values.items()}

    def moved(self, first: int, second: int) -> set[str]:
        return {name for name, value in self.at[first].items() if not torch.equal(value, self.at[second][name])}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    path = tmp_path_factory.mktemp("stages") / "run"
    assert not train(STAGES, out=path).stopped
    return content(path)


@pytest.mark.parametrize("step", [3, 7, 9, 12, 16])
def test_a_run_resumed_in_any_stage_equals_the_unbroken_one(
    step: int, unbroken: dict[str, bytes], tmp_path: Path
) -> None:
    assert train(STAGES, out=tmp_path / "run", callback=StopAt(step)).stopped
    assert not resume(tmp_path / "run").stopped
    assert content(tmp_path / "run") == unbroken


def test_what_a_stage_freezes_does_not_move_nor_do_its_statistics(tmp_path: Path) -> None:
    seen = Weights(*ENDS)
    train(STAGES, out=tmp_path / "run", callback=seen)
    frozen = seen.moved(7, 12)
    assert frozen
    assert all(name.startswith(("decoder", "head")) for name in frozen)
    thawed = seen.moved(12, 21)
    assert "encoder.1.running_mean" in thawed
    assert not any(name.startswith("decoder.0") for name in thawed)
    assert any(name.startswith("decoder.2") for name in thawed)


def test_the_average_of_what_a_stage_freezes_is_frozen_too(tmp_path: Path) -> None:
    recipe = staged(
        {"epochs": 2},
        {"epochs": 3, "freeze": ["encoder", "bottleneck"], "optimizer": {"lr": 1e-2}},
        {"epochs": 1},
        ema=0.98,
        keep=100,
    )
    run = train(recipe, out=tmp_path / "run")
    tensors = {
        int(path.name.removeprefix("step-")): read_checkpoint(path).tensors
        for path in list_checkpoints(run.path / "checkpoints")
    }
    first, frozen, later = tensors[14], tensors[35], tensors[42]
    parts = ("encoder", "bottleneck")
    for name, value in first.items():
        part = name.removeprefix("ema.").removeprefix("model.")
        if part.startswith(parts) and not name.startswith("optimizer"):
            assert torch.equal(value, frozen[name]), name
            # What the decoder is trained on is what is validated and saved.
            if name.startswith("ema."):
                assert torch.equal(value, frozen[f"model.{part}"]), name
    assert not torch.equal(first["ema.decoder.0.weight"], frozen["ema.decoder.0.weight"])
    assert not torch.equal(frozen["ema.encoder.0.weight"], later["ema.encoder.0.weight"])
    kl = [row["kl"] for row in run.metrics if row["split"] == "validation"]
    assert kl[1:5] == [kl[1]] * 4
    assert len(set(kl)) == 3


def test_the_stages_begin_where_the_one_before_ended(tmp_path: Path) -> None:
    run = train(STAGES, out=tmp_path / "run")
    state = read_checkpoint(sorted((run.path / "checkpoints").iterdir())[-1]).progress
    assert (state.stage_starts, state.step, state.finished) == ([0, 7, 12], 21, True)
    assert [row["step"] for row in run.metrics if row["split"] == "validation"] == [7, 12, 14, 21]
    assert "21 steps" in (run.path / "README.md").read_text()


def test_a_plateau_is_found_on_training_figures_where_nothing_is_held_out(tmp_path: Path) -> None:
    recipe = staged({"epochs": 5, "until": {"plateau": {"patience": 1, "threshold": 10.0}}})
    run = train({**recipe, "data": {"source": "digits", "validation": 0}}, out=tmp_path / "run")
    assert run.metrics[-1]["epoch"] == 2
    assert all(row["split"] == "train" for row in run.metrics)


def test_the_best_model_is_chosen_under_the_weights_of_the_stages_end(tmp_path: Path) -> None:
    recipe = staged({"epochs": 4, "objective": {"kl": {"weight": {"staircase": {"epochs": {0: 0.0, 2: 100.0}}}}}})
    run = train(recipe, out=tmp_path / "run")
    rows = [row for row in run.metrics if row["split"] == "validation"]
    for row in rows:
        assert row["total_at_end"] == pytest.approx(row["reconstruction"] + 100 * row["kl"])
    assert rows[0]["total"] == pytest.approx(rows[0]["reconstruction"])
    best = min(rows, key=lambda row: row["total_at_end"])
    assert present(run.model.provenance.training).step == best["step"]


def test_best_begins_anew_with_each_stage(tmp_path: Path) -> None:
    recipe = staged({"epochs": 1, "objective": {"kl": 0}}, {"epochs": 1, "objective": {"kl": 100}})
    assert present(train(recipe, out=tmp_path / "run").model.provenance.training).stage == "stage 2"


def test_curves_mark_the_stages(tmp_path: Path) -> None:
    train(staged({"epochs": 1}, {"epochs": 1}, pictures_every=1), out=tmp_path / "run")
    assert (RunFolder(tmp_path / "run").pictures / "curves.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("freeze", "message"),
    [(["encode"], "did you mean 'encoder'"), (["encoder.99.*"], "unknown part"), (["*"], "all parameters")],
)
def test_what_cannot_be_frozen_is_named(freeze: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"stages\.1\.freeze: .*{message}"):
        train(staged({"epochs": 1}, {"epochs": 1, "freeze": freeze}), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
