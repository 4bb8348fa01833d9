"""A step in parts is the step; averaged weights are what a run gives; both survive a stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from training.runs import RECIPE, StopAt, content, model_of

from convae.describe import build
from convae.training import resume, train
from convae.training.loop.checkpoint import list_checkpoints
from convae.training.loop.engine import ExponentialMovingAverage
from convae.training.loop.trainer import Callback, Trainer

# Without batch statistics or dropout; the noise of a part, 50 · 16 values, is a whole number of torch's blocks.
PLAIN = {
    "input": [1, 8, 8],
    "encoder": [{"conv": {"channels": 4, "stride": 2}}, "relu", "flatten"],
    "bottleneck": {"gaussian": {"latent": 16}},
    "decoder": [{"linear": {"features": 64}}, {"unflatten": {"to": [1, 8, 8]}}],
    "likelihood": {"gaussian": {"sigma": 0.3}},
}


def recipe(**training: Any) -> dict[str, Any]:
    return {**RECIPE, "training": {**RECIPE["training"], **training}}


class Weights(Callback):
    """Copies of the weights and running statistics after each step."""

    def __init__(self) -> None:
        self.after: list[dict[str, torch.Tensor]] = []

    def on_step_end(self, trainer: Trainer) -> None:
        model = model_of(trainer)
        self.after.append({name: value.detach().double() for name, value in model.state_dict().items()})


@pytest.mark.parametrize("parts", [2, 4])
def test_a_step_in_parts_is_the_step_up_to_rounding(parts: int, tmp_path: Path) -> None:
    whole, cut = Weights(), Weights()
    # Adam divides a gradient by its size, which makes much of the rounding of small ones: a large epsilon would hide
    # it, so only the first steps are compared.
    plain = {**recipe(steps=3, epochs=None, precision="float32", optimizer={"clip": 1.0}), "model": PLAIN}
    one = train(plain, out=tmp_path / "whole", callback=whole)
    two = train({**plain, "training": {**plain["training"], "accumulate": parts}}, out=tmp_path / "cut", callback=cut)
    for first, second in zip(whole.after, cut.after, strict=True):
        for name, value in first.items():
            torch.testing.assert_close(second[name], value, rtol=0, atol=2e-5)
    assert one.metrics[0]["total"] == pytest.approx(two.metrics[0]["total"], rel=1e-6)
    assert one.metrics[0]["gradient_norm"] == pytest.approx(two.metrics[0]["gradient_norm"], rel=1e-4)


def test_the_temperature_is_the_factor_on_what_is_drawn_of_a_latent(tmp_path: Path) -> None:
    class Distances(Callback):
        """How far each latent that is decoded is from the mean of its posterior, in standard deviations."""

        def on_train_start(self, trainer: Trainer) -> None:
            self.found: list[torch.Tensor] = []
            model_of(trainer).register_forward_hook(self.look)

        def look(self, model: torch.nn.Module, _: Any, output: Any) -> None:
            if model.training:
                distance = (output.latent - output.posterior.mean) * (-0.5 * output.posterior.logvar).exp()
                self.found.append(distance.detach())

    seen: dict[str, list[torch.Tensor]] = {}
    for name, temperature in {"one": 1.0, "rising": {"linear": {"start": 0.0, "end": 2.0, "steps": 2}}}.items():
        options = recipe(steps=3, epochs=None, precision="float32", temperature=temperature)
        watching = Distances()
        train({**options, "model": PLAIN}, out=tmp_path / name, callback=watching)
        seen[name] = watching.found
    for factor, one, own in zip((0.0, 1.0, 2.0), seen["one"], seen["rising"], strict=True):
        torch.testing.assert_close(own, factor * one, rtol=1e-3, atol=1e-4)


def test_what_is_computed_again_is_the_same(tmp_path: Path) -> None:
    # Batch norm, whose statistics move once, and dropout, which drops the same values again, in groups of two layers.
    options = recipe(epochs=None, steps=4, accumulate=2)
    train(options, out=tmp_path / "kept")
    train({**options, "training": {**options["training"], "checkpointing": True}}, out=tmp_path / "again")
    kept, again = content(tmp_path / "kept"), content(tmp_path / "again")
    for name in ("metrics.jsonl", "tensors.safetensors", "model.safetensors"):
        assert kept[name] == again[name], name


def test_more_parts_than_images_are_as_many_as_images(tmp_path: Path) -> None:
    assert not train(
        {**recipe(epochs=None, steps=1, batch_size=2, accumulate=5), "model": PLAIN}, out=tmp_path / "r"
    ).stopped


def test_averaged_weights_and_parts_survive_a_stop(tmp_path: Path) -> None:
    options = recipe(ema=0.9, accumulate=3, epochs=3)
    train(options, out=tmp_path / "unbroken")
    train(options, out=tmp_path / "run", callback=StopAt(9))
    resume(tmp_path / "run")
    assert content(tmp_path / "run") == content(tmp_path / "unbroken")


def test_a_run_gives_the_average_of_its_weights_over_the_steps(tmp_path: Path) -> None:
    seen = Weights()
    train(recipe(ema=0.8, epochs=1), out=tmp_path / "run", callback=seen)
    average = {name: value.double() for name, value in build(RECIPE["model"]).state_dict().items()}
    assert any(name.endswith("running_var") for name in average)
    for step, weights in enumerate(seen.after):
        decay = min(0.8, (1 + step) / (10 + step))
        average = {name: decay * value + (1 - decay) * weights[name] for name, value in average.items()}
    given = load_file(tmp_path / "run" / "model" / "model.safetensors")
    stored = load_file(list_checkpoints(tmp_path / "run" / "checkpoints")[-1] / "tensors.safetensors")
    for name, value in average.items():
        torch.testing.assert_close(given[name].double(), value, rtol=1e-4, atol=1e-6)
        assert torch.equal(given[name], stored[f"ema.{name}"])
        # Training goes on from the weights themselves.
        assert torch.equal(stored[f"model.{name}"].double(), seen.after[-1][name])


def test_the_average_takes_the_place_of_the_weights_and_gives_it_back() -> None:
    model = build(PLAIN)
    average = ExponentialMovingAverage(model, 0.5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    before = [parameter.clone() for parameter in model.parameters()]
    with average.in_place():
        for parameter, old in zip(model.parameters(), before, strict=True):
            torch.testing.assert_close(parameter + 1, old)
    assert all(torch.equal(parameter, old) for parameter, old in zip(model.parameters(), before, strict=True))


def test_statistics_of_a_frozen_part_are_their_average_and_stay(tmp_path: Path) -> None:
    stages = [{"steps": 4}, {"steps": 3, "freeze": ["encoder"]}]
    train({**recipe(ema=0.9, epochs=None), "stages": stages}, out=tmp_path / "run")
    stored = load_file(list_checkpoints(tmp_path / "run" / "checkpoints")[-1] / "tensors.safetensors")
    frozen = [name for name in stored if name.startswith("ema.encoder.") and "running" in name]
    assert frozen
    for name in frozen:
        assert torch.equal(stored[name], stored[name.replace("ema.", "model.", 1)]), name


def test_the_validation_counts_the_images_of_the_training(tmp_path: Path) -> None:
    """As the loss of the training does, for densities of the aggregate posterior."""
    found = []
    for images in (None, 40):
        recipe = {
            "model": RECIPE["model"],
            "objective": {"reconstruction": {}, "kl": {}, "total-correlation": {"images": images}},
            "training": {"steps": 1, "batch_size": 8, "pictures_every": 0},
        }
        source = torch.Generator().manual_seed(0)
        data, held = (torch.rand(count, 1, 8, 8, generator=source) for count in (40, 20))
        run = train(recipe, data=data, validation=held, out=tmp_path / str(images))
        found += [row["total-correlation"] for row in run.metrics if row["split"] == "validation"]
    assert found[0] == found[1]


def test_a_validation_does_not_depend_on_the_order_of_the_classes(tmp_path: Path) -> None:
    """Images in folders are sorted by class, and some terms are of the latents of whole batches."""
    black, white = torch.zeros(20, 1, 8, 8), torch.ones(20, 1, 8, 8)
    orders = {"sorted": torch.cat([black, white]), "in turn": torch.stack([black, white], 1).flatten(0, 1)}
    found = []
    for name, held in orders.items():
        recipe = {
            "model": RECIPE["model"],
            "objective": {"reconstruction": {}, "kl": {}, "dip": {}},
            "training": {"steps": 1, "batch_size": 8, "pictures_every": 0, "precision": "float32"},
        }
        run = train(recipe, data=orders["in turn"], validation=held, out=tmp_path / name)
        found += [row["dip"] for row in run.metrics if row["split"] == "validation"]
    assert found[0] == pytest.approx(found[1], rel=1e-4)
