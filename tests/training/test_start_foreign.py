"""A run begins with weights that another project saved, as a whole or by parts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from command import run as command
from originals import TorchVAE, randomize
from torch import Tensor
from training.runs import StopAt, content, model_of

import convae
from convae.core.errors import ConfigError, ConvaeError
from convae.interop import import_model
from convae.model.weights import sha256_of
from convae.objective.terms.base import LossInputs
from convae.objective.terms.reconstruction import Reconstruction
from convae.training import Callback, resume, train
from convae.training.loop.trainer import Trainer
from convae.training.recipe.reading import read_recipe

RECIPE: dict[str, Any] = {
    "data": {"source": "digits", "size": 16},
    "training": {"epochs": 3, "batch_size": 500, "log_every": 4, "pictures_every": 0},
}
DECODER = {"model": {"preset": "torch-vae", "latent": 3, "max_filters": 8}}


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    original = TorchVAE(1, latent=3, most=8, side=2)
    randomize(original)
    torch.save({"epoch": 3, "state_dict": original.state_dict()}, tmp_path / "weights.pth")
    return tmp_path / "weights.pth"


class FirstValues(Callback):
    """The model's values before the first step."""

    def on_train_start(self, trainer: Trainer) -> None:
        self.values = {name: value.clone() for name, value in model_of(trainer).state_dict().items()}


def start(path: Path, **options: Any) -> dict[str, Any]:
    return {"start": {"model": str(path), "importer": "torch-vae", **options}}


def test_all_of_a_foreign_file_is_taken_and_recorded(weights: Path, tmp_path: Path) -> None:
    imported, seen = import_model(weights, "torch-vae"), FirstValues()
    made = train({**RECIPE, **start(weights)}, out=tmp_path / "run", callback=seen)
    assert seen.values.keys() == imported.state_dict().keys()
    assert all(torch.equal(value, seen.values[name]) for name, value in imported.state_dict().items())
    recorded = read_recipe(made.path / "recipe.yaml").start
    assert recorded is not None
    assert recorded.importer == "torch-vae"
    facts = made.model.provenance.training
    assert facts is not None
    assert facts.start == recorded.sha256
    copy = convae.load(made.path / "start").provenance.imported
    assert copy is not None
    assert (copy.file, copy.importer, copy.sha256) == ("weights.pth", "torch-vae", sha256_of(weights))
    assert any(str(weights) in note and "shortcut" in note for note in made.notes)


def test_parts_of_a_foreign_file_are_taken(weights: Path, tmp_path: Path) -> None:
    imported, seen = import_model(weights, "torch-vae").state_dict(), FirstValues()
    train({**RECIPE, **DECODER, **start(weights, parts=["decoder"])}, out=tmp_path / "run", callback=seen)
    same = {name for name, value in seen.values.items() if torch.equal(value, imported[name])}
    weighty = {name for name, value in imported.items() if value.ndim > 1}
    assert {name for name in imported if name.startswith("decoder")} <= same
    assert not {name for name in weighty if not name.startswith("decoder")} & same


def test_it_resumes_bit_for_bit_when_the_file_is_gone(weights: Path, tmp_path: Path) -> None:
    recipe = {**RECIPE, **start(weights)}
    train(recipe, out=tmp_path / "unbroken")
    train(recipe, out=tmp_path / "next", callback=StopAt(2))
    for checkpoint in (tmp_path / "next" / "checkpoints").iterdir():  # as if it had been killed before the first one
        checkpoint.rename(tmp_path / checkpoint.name)
    weights.unlink()
    resume(tmp_path / "next")
    assert content(tmp_path / "next") == content(tmp_path / "unbroken")


class AfterRollback(FirstValues):
    """The model's values when the run was rolled back, before the next step."""

    spoil: Callable[[], None]

    def on_train_start(self, trainer: Trainer) -> None:
        super().on_train_start(trainer)
        self.trainer = trainer
        self.back: dict[str, Tensor] = {}
        self.spoil()

    def on_message(self, sentence: str) -> None:
        del sentence
        if self.trainer.progress.lr_halvings and not self.back:
            self.step = self.trainer.progress.step
            self.back = {name: value.clone() for name, value in model_of(self.trainer).state_dict().items()}


@pytest.mark.parametrize("parts", [(), ("decoder",)])
def test_it_rolls_back_to_the_weights_of_the_file_when_that_is_gone(
    parts: tuple[str, ...], weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, forward = AfterRollback(), Reconstruction.forward

    def spoiled(self: Reconstruction, inputs: LossInputs) -> Tensor:
        weights.unlink(missing_ok=True)
        values = forward(self, inputs)
        first = torch.is_grad_enabled() and not seen.trainer.progress.lr_halvings
        return values * float("nan") if first and seen.trainer.progress.step > 1 else values

    imported = import_model(weights, "torch-vae").state_dict()
    options: dict[str, Any] = {"parts": list(parts)} if parts else {}
    recipe = {**RECIPE, **(DECODER if parts else {}), **start(weights, **options)}
    recipe["training"] = {**RECIPE["training"], "epochs": 1, "batch_size": 80}
    seen.spoil = lambda: monkeypatch.setattr(Reconstruction, "forward", spoiled)
    run = train(recipe, out=tmp_path / "run", callback=seen)
    assert not run.stopped
    assert not weights.exists()
    assert seen.step == 0
    assert seen.back.keys() == seen.values.keys()
    assert all(torch.equal(value, seen.values[name]) for name, value in seen.back.items())
    taken = [name for name in imported if name.startswith(parts or ("",))]
    assert all(torch.equal(seen.back[name], imported[name]) for name in taken)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"sha256": "0" * 64}, ["start.sha256", "000000000000"]),
        ({"importer": "torch-va"}, ["importer", "torch-vae"]),
        ({"importer": None}, ["start.importer", "--as", "torch-vae"]),
        ({"importer": None, "key": "state_dict"}, ["start", "importer"]),
        ({"importer": "image-vae"}, ["weights.pth", "image-vae"]),
        ({"key": "optimizer"}, ["'optimizer'", "'state_dict'"]),
        ({"parts": ["decode"]}, ["start.parts.0", "'decoder'"]),
    ],
)
@pytest.mark.parametrize("model", [{}, DECODER])
def test_what_is_wrong_is_named_before_a_run_begins(
    options: dict[str, Any], parts: list[str], model: dict[str, Any], weights: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConvaeError) as caught:
        train({**RECIPE, **model, **start(weights, **options)}, out=tmp_path / "run")
    assert all(part in str(caught.value) for part in parts)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_another_file_in_its_place_is_refused(weights: Path, tmp_path: Path) -> None:
    made = train({**RECIPE, **start(weights)}, out=tmp_path / "run")
    torch.save(TorchVAE(1, latent=3, most=8, side=2).state_dict(), weights)
    with pytest.raises(ConfigError, match=r"start\.sha256"):
        train(made.path / "recipe.yaml", out=tmp_path / "again")


def test_the_command_line_starts_from_a_foreign_file(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = ("train", "--start", "weights.pth", "--data", "digits", "--steps", "1")
    command(*given, "--as", "torch-vae", "--out", "run")
    found = read_recipe("run/recipe.yaml")
    assert found.start is not None
    assert (found.start.model, found.start.importer) == (weights, "torch-vae")
    assert found.model["input"] == [1, 16, 16]
    command(*given, "--out", "other", code=2)
    assert "--as" in capsys.readouterr().err
