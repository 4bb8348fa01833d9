"""A run begins with the weights of a saved model, as a whole or by parts, and goes back to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from command import run as command
from narrow import present
from training.runs import RECIPE, StopAt, content, model_of

import convae
from convae.core.errors import ConfigError
from convae.training import resume, train
from convae.training.loop.trainer import Callback, Trainer
from convae.training.recipe.reading import read_recipe

STILL = {"lr": 1e-12, "schedule": "constant", "warmup": 0, "weight_decay": 0.0}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(RECIPE, out=tmp_path_factory.mktemp("start") / "run").path


def first(**options: Any) -> dict[str, Any]:
    """One step that changes next to nothing."""
    recipe = {key: value for key, value in RECIPE.items() if key != "model"}
    training = {**RECIPE["training"], "epochs": None, "steps": 1, "optimizer": STILL}
    return {**recipe, "training": training, **options}


class Beginning(Callback):
    """The model's values before the first step."""

    def on_train_start(self, trainer: Trainer) -> None:
        self.values = {name: value.clone() for name, value in model_of(trainer).state_dict().items()}


def begins(tmp_path: Path, name: str = "next", **options: Any) -> dict[str, torch.Tensor]:
    seen = Beginning()
    train(first(**options), out=tmp_path / name, callback=seen)
    return seen.values


@pytest.mark.parametrize("which", ["best", "last", "loaded", "model", "option"])
def test_a_run_begins_with_all_of_a_saved_model(which: str, run: Path, tmp_path: Path) -> None:
    saved = convae.load(run / "last" if which == "last" else run)
    start: dict[str, dict[str, Any]] = {
        "best": {"start": str(run)},
        "last": {"start": {"model": run, "which": "last"}},
        "loaded": {"start": saved},
        "model": {"model": saved},
        "option": {"model": str(run)},
    }
    values = begins(tmp_path, **start[which])
    assert values.keys() == saved.state_dict().keys()
    assert all(torch.equal(value, values[name]) for name, value in saved.state_dict().items())


def test_parts_are_taken_and_the_others_are_random(run: Path, tmp_path: Path) -> None:
    mean = read_recipe(run / "recipe.yaml").training.image_mean
    saved, fresh = convae.load(run).state_dict(), convae.build(RECIPE["model"], image_mean=mean).state_dict()
    values = begins(tmp_path, start={"model": str(run), "parts": ["encoder", "bottleneck"]})
    for name, value in values.items():
        assert torch.equal(value, (saved if name.startswith(("encoder", "bottleneck")) else fresh)[name]), name


@pytest.mark.parametrize(
    ("model", "start", "message"),
    [
        ({"bottleneck": {"gaussian": {"latent": 5}}}, {}, r"'bottleneck\.weight' is 6×64 in it and 10×64 in the model"),
        ({"classifier": [{"linear": {"features": 10}}]}, {}, r"'classifier\.0\.\w+' is missing in it"),
        ({}, {"parts": ["encode"]}, r"start\.parts\.0: .*did you mean 'encoder'"),
        ({}, {"sha256": "0" * 64}, "another model"),
        ({}, {"which": "newest"}, r"start\.which"),
    ],
)
def test_what_does_not_fit_is_named_before_a_run_begins(
    model: dict[str, Any], start: dict[str, Any], message: str, run: Path, tmp_path: Path
) -> None:
    recipe = first(start={"model": str(run), **start}, model={**RECIPE["model"], **model})
    with pytest.raises(ConfigError, match=message):
        train(recipe, out=tmp_path / "next")
    assert not (tmp_path / "next").exists()


def test_a_model_with_values_that_are_not_finite_is_no_start(run: Path, tmp_path: Path) -> None:
    broken = convae.load(run)
    with torch.no_grad():
        broken.get_parameter("decoder.0.weight")[0, 0] = float("nan")
    with pytest.raises(ConfigError, match=r"'decoder\.0\.weight' .* not finite"):
        train(first(start=broken), out=tmp_path / "next")


@pytest.mark.parametrize("step", [2, 9])
def test_a_run_that_started_so_resumes_bit_for_bit_without_the_other_run(step: int, run: Path, tmp_path: Path) -> None:
    saved = convae.load(run)
    given = convae.save(saved, tmp_path / "given")
    recipe = {**RECIPE, "start": str(given)}
    train(recipe, out=tmp_path / "unbroken")
    train(recipe, out=tmp_path / "next", callback=StopAt(step))
    if step == 2:  # as if it had been killed before its first checkpoint
        for checkpoint in (tmp_path / "next" / "checkpoints").iterdir():
            checkpoint.rename(tmp_path / checkpoint.name)
    given.rename(tmp_path / "moved")
    resume(tmp_path / "next")
    assert content(tmp_path / "next") == content(tmp_path / "unbroken")
    assert resume(tmp_path / "next").recipe.start == resume(tmp_path / "unbroken").recipe.start
    assert (tmp_path / "next" / "start" / "config.json").is_file()


def test_a_roll_back_to_the_beginning_goes_back_to_the_start(run: Path, tmp_path: Path) -> None:
    saved = convae.load(run).state_dict()
    found: dict[str, torch.Tensor] = {}

    class Spoiler(Callback):
        spoiled = False

        def on_step_end(self, trainer: Trainer) -> None:
            if trainer.progress.step == 2 and not self.spoiled:
                self.spoiled = True
                with torch.no_grad():
                    model_of(trainer).get_parameter("decoder.0.weight").fill_(float("nan"))

        def on_message(self, sentence: str) -> None:
            if "back to step 0" in sentence:
                found.update({name: value.clone() for name, value in self.model.state_dict().items()})

        def on_train_start(self, trainer: Trainer) -> None:
            self.model = model_of(trainer)

    recipe = {**RECIPE, "start": str(run), "training": {**RECIPE["training"], "epochs": 1, "batch_size": 60}}
    made = train(recipe, out=tmp_path / "next", callback=Spoiler())
    assert "back to step 0" in made.notes[-1]
    assert all(torch.equal(value, found[name]) for name, value in saved.items())


CODES: dict[str, Any] = {
    "data": "digits",
    "model": {
        "input": [1, 8, 8],
        "encoder": [{"conv": {"channels": 8, "stride": 2}}, "relu"],
        "bottleneck": {"vq": {"codes": 16, "latent": 4}},
        "decoder": [{"conv-transpose": {"channels": 1, "stride": 2}}],
    },
    "objective": {"reconstruction": {}, "commitment": {"weight": 0.25}},
    "training": {"steps": 40, "batch_size": 16, "log_every": 40, "pictures_every": 0, "optimizer": {"lr": 3e-3}},
}


def test_a_codebook_is_not_begun_anew_by_larger_batches(tmp_path: Path) -> None:
    """A code that small batches used often enough is not dead in batches that are 80 times as large."""
    trained = train(CODES, out=tmp_path / "codes")
    book = trained.model.state_dict()["bottleneck.quantizer.codebook"]

    class Moves(Callback):
        def on_step_end(self, trainer: Trainer) -> None:
            self.book = model_of(trainer).state_dict()["bottleneck.quantizer.codebook"].clone()

    seen = Moves()
    options = {**CODES["training"], "steps": 1, "batch_size": 1280, "optimizer": STILL}
    train({**CODES, "start": str(trained.path), "training": options}, out=tmp_path / "next", callback=seen)
    # One step of its moving average.
    moved = (seen.book - book).norm(dim=1) / book.norm(dim=1)
    assert moved.median() < 0.1


def test_a_finished_run_is_trained_on_in_a_new_one(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = content(run)
    command("train", "--resume", run)
    said = capsys.readouterr().err
    assert "finished" in said
    assert f"convae train --start {run}" in said
    assert content(run) == before
    command("train", "--resume", run, "training.epochs=5", code=2)
    assert f"convae train --start {run} training.epochs=5" in capsys.readouterr().err
    command("train", "--start", run, "--epochs", "1", "--lr", "1e-4", "--out", "next")
    recipe = read_recipe("next/recipe.yaml")
    assert recipe.data == read_recipe(run / "recipe.yaml").data
    assert recipe.start is not None
    assert (recipe.start.model, recipe.training.epochs, recipe.training.optimizer.lr) == (run, 1, 1e-4)
    assert f"starts from {run}" in (tmp_path / "next" / "metrics.jsonl").read_text()


def test_a_saved_model_of_no_run_needs_data(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alone = convae.save(convae.load(run), tmp_path / "alone")
    command("train", "--start", alone, code=2)
    assert "--data" in capsys.readouterr().err
    command("train", "--start", tmp_path / "nothing", code=2)
    assert "no such folder" in capsys.readouterr().err
    command("train", "--start", alone, "model.latent=5", "--data", "digits", code=2)
    assert "model.latent" in capsys.readouterr().err


def test_the_last_model_is_one_like_the_best(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    last = convae.load(run / "last")
    training = present(last.provenance.training)
    assert (training.which, training.step) == ("last", 21)
    command("evaluate", run / "last", "--metrics", "kl")
    assert "kl" in capsys.readouterr().out
