"""A run is continued by the recipe and the plan that it was trained under, or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from narrow import present
from training.runs import RECIPE, StopAt, content

from convae.core.errors import ConfigError, OutputError, TrainingError
from convae.training import resume, train
from convae.training.loop.checkpoint import Machine, list_checkpoints, read_checkpoint
from convae.training.loop.recovery import check_progress, check_recipe
from convae.training.loop.trainer import Callback, Trainer
from convae.training.recipe.reading import read_recipe
from convae.training.vae.build import build_task


class Notes(Callback):
    """What an callback is told in words."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def on_message(self, sentence: str) -> None:
        self.sentences.append(sentence)


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    return train(RECIPE, out=tmp_path / "run", callback=StopAt(9)).path


def edit(run: Path, key: str, value: Any) -> Any:
    """Writes another value into the recipe of a run; gives the old one."""
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    *path, last = key.split(".")
    place = recipe
    for name in path:
        place = place[name]
    old, place[last] = place[last], value
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    return old


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("training.epochs", 1),
        ("training.epochs", 40),
        ("training.batch_size", 100),
        ("training.seed", 1),
        ("training.optimizer.lr", 0.1),
        ("training.ema", 0.9),
        ("objective.kl.weight", 4.0),
        ("data.split_seed", 3),
        ("stages", [{"steps": 3}]),
    ],
)
def test_another_recipe_is_refused_with_its_option_and_both_values(key: str, value: Any, stopped: Path) -> None:
    old = edit(stopped, key, value)
    before = content(stopped)
    if key == "stages":
        edit(stopped, "training.epochs", None)
    with pytest.raises(ConfigError) as told:
        resume(stopped)
    for fact in (str(stopped / "recipe.yaml"), key if key != "stages" else "training.epochs", "--start"):
        assert fact in str(told.value)
    if not isinstance(value, list) and not isinstance(old, dict):
        assert f"{key} is {value!r}" in str(told.value)
        assert repr(old) in str(told.value)
    assert {**content(stopped), "recipe.yaml": b""} == {**before, "recipe.yaml": b""}


def test_what_changes_no_result_may_be_changed(stopped: Path, tmp_path: Path) -> None:
    changes = {"training.keep": 5, "training.checkpointing": True, "training.pictures_every": 2}
    for key, value in changes.items():
        edit(stopped, key, value)
    assert not resume(stopped).stopped
    train(RECIPE, out=tmp_path / "unbroken")
    for name in ("metrics.jsonl", "model.safetensors", "tensors.safetensors"):
        assert content(stopped)[name] == content(tmp_path / "unbroken")[name]


def test_options_that_a_run_of_an_earlier_version_did_not_know_count_as_their_defaults(tmp_path: Path) -> None:
    recipe = read_recipe(RECIPE)
    earlier = recipe.model_dump(mode="json")
    del earlier["data"]["interpolation"], earlier["training"]["temperature"]
    check_recipe(recipe, earlier, tmp_path)
    with pytest.raises(ConfigError, match=r"interpolation is 'bilinear', but the run was trained with 'bicubic'"):
        check_recipe(read_recipe(RECIPE, ["data.interpolation=bilinear"]), earlier, tmp_path)


def test_a_finished_run_with_another_length_is_refused_too(tmp_path: Path) -> None:
    run = train(RECIPE, out=tmp_path / "run", overrides=["training.epochs=1"]).path
    edit(run, "training.epochs", 2)
    with pytest.raises(ConfigError, match=r"training\.epochs is 2"):
        resume(run)


def test_a_state_beyond_its_plan_is_refused(stopped: Path) -> None:
    plan = build_task(read_recipe(RECIPE)).plan
    state = read_checkpoint(list_checkpoints(stopped / "checkpoints")[-1]).progress
    check_progress(state, plan, stopped)
    for starts, step, finished in (([0], 21, False), ([0], 22, True), ([0], 2003, False), ([0, 7], 9, False)):
        state.stage_starts, state.step, state.finished = starts, step, finished
        with pytest.raises(ConfigError, match="recipe"):
            check_progress(state, plan, stopped)
    state.stage_starts, state.step, state.finished = [0], 21, True
    check_progress(state, plan, stopped)


def test_fewer_images_than_the_plan_knew_are_refused(tmp_path: Path) -> None:
    """The same recipe and fewer images: an epoch has fewer steps, and the run would never meet its last."""
    import numpy as np

    generator = np.random.default_rng(0)
    images = generator.integers(0, 255, (200, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    recipe = {**RECIPE, "data": str(tmp_path / "images.npy")}
    recipe["training"] = {**RECIPE["training"], "batch_size": 20, "epochs": 3}
    run = train(recipe, out=tmp_path / "run", callback=StopAt(19)).path
    np.save(tmp_path / "images.npy", images[:60])
    with pytest.raises(Exception, match=r"images|data") as told:
        resume(run)
    assert type(told.value).__module__ == "convae.core.errors"


def test_a_checkpoint_says_what_it_was_computed_on_and_a_note_says_what_is_new(
    stopped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = json.loads((list_checkpoints(stopped / "checkpoints")[-1] / "state.json").read_text())["machine"]
    assert machine == {
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "torch_version": torch.__version__,
        "device": "cpu",
        "processes": 1,
    }
    here = Machine.here
    monkeypatch.setattr(
        Machine, "here", lambda *given: Machine(**{**vars(here(*given)), "threads": 7, "instructions": "SSE"})
    )
    notes = Notes()
    run = resume(stopped, callback=notes)
    (sentence,) = run.notes
    assert notes.sentences == [sentence]
    assert f"threads 7 instead of {machine['threads']}" in sentence
    assert f"instructions SSE instead of {machine['instructions']}" in sentence
    assert "torch" not in sentence
    assert "rounding" in sentence


@pytest.mark.parametrize("gone", ["removed", "moved"])
def test_a_run_folder_that_is_taken_away_ends_the_training(gone: str, tmp_path: Path) -> None:
    import shutil

    class Take(Callback):
        def on_step_end(self, trainer: Trainer) -> None:
            if trainer.progress.step == 2:
                if gone == "removed":
                    shutil.rmtree(tmp_path / "run")
                else:
                    (tmp_path / "run").rename(tmp_path / "other")

    with pytest.raises(OutputError, match="run"):
        train(RECIPE, out=tmp_path / "run", callback=Take())
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.parametrize("step", [2, 12])
def test_out_of_memory_says_what_to_do_and_the_run_can_be_continued(step: int, tmp_path: Path) -> None:
    class Full(Callback):
        def on_step_end(self, trainer: Trainer) -> None:
            if trainer.progress.step == step:
                raise RuntimeError("could not create a primitive")

    with pytest.raises(TrainingError) as told:
        train(RECIPE, out=tmp_path / "run", callback=Full())
    for fact in (
        f"step {step}",
        "200 images",
        "training.accumulate",
        "training.checkpointing",
        "convae find-batch-size",
        "--resume",
    ):
        assert fact in str(told.value)
    assert ("step-00000007" if step == 12 else "the beginning") in str(told.value)
    edit(tmp_path / "run", "training.accumulate", 2)
    assert not resume(tmp_path / "run").stopped


def test_other_errors_are_not_taken_for_a_lack_of_memory(tmp_path: Path) -> None:
    class Wrong(Callback):
        def on_step_end(self, trainer: Trainer) -> None:
            raise RuntimeError("a fault of ours")

    with pytest.raises(RuntimeError, match="a fault of ours"):
        train(RECIPE, out=tmp_path / "run", callback=Wrong())


def test_time_that_is_up_leaves_a_model_pictures_and_a_run_to_continue(tmp_path: Path) -> None:
    options = {"minutes": 1e-9, "pictures_every": 1, "epochs": 2}
    run = train({**RECIPE, "training": {**RECIPE["training"], **options}}, out=tmp_path / "run")
    assert (run.stopped, run.out_of_time) == (True, True)
    assert [row["split"] for row in run.metrics] == ["train", "validation"]
    assert (run.best_step, run.best["total"]) == (1, run.metrics[-1]["total_at_end"])
    assert present(run.last.provenance.training).step == 1
    assert (run.pictures / "curves.png").is_file()
    edit(run.path, "training.minutes", 60)
    again = resume(run.path)
    assert (again.stopped, again.out_of_time) == (False, False)
    assert again.metrics[-1]["step"] == 14
