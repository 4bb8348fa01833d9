"""Previews of plans, and memory estimates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from convae.cli.train import train
from convae.describe import resolve
from convae.pictures.save import save
from convae.training.memory import activation_bytes, estimate_memory
from convae.training.recipe.plan import draw_schedules, stage_table
from convae.training.recipe.reading import read_recipe
from convae.training.recipe.stages import build_plan

RECIPES = Path(__file__).parents[2] / "src" / "convae" / "recipes"


def test_the_table_describes_each_stage() -> None:
    joint, decoder = stage_table(build_plan(read_recipe(RECIPES / "two-stage.yaml"), 100))
    assert joint["epochs"] == "0–1,500"
    assert joint["weights"] == "reconstruction 1, kl 0 → 5"
    assert joint["optimizer"] == "new adam, lr 0.0001 → 1e-05"
    assert "20 epochs" in joint["ends"]
    assert decoder["frozen"] == "encoder, bottleneck"
    assert decoder["weights"] == "reconstruction 1, kl 0"
    assert (decoder["epochs"], decoder["steps"]) == ("1,500–1,700", "20,000")
    assert "without" not in decoder["ends"]


def test_every_schedule_is_drawn(tmp_path: Path) -> None:
    figure = draw_schedules(build_plan(read_recipe(RECIPES / "two-stage.yaml"), 100), "a plan")
    assert [axes.get_title() for axes in figure.axes] == ["learning rate", "weight of reconstruction", "weight of kl"]
    line = figure.axes[2].get_lines()[0]
    assert np.asarray(line.get_ydata()).max() == pytest.approx(5)
    assert save(figure, tmp_path / "plan.png").stat().st_size > 1000


def test_a_dry_run_trains_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(data="digits", epochs=3, out=tmp_path / "run", dry_run=True) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["run-plan.png"]
    assert "22 steps of 64 in an epoch" in capsys.readouterr().out


def test_activations_are_counted_once_and_grow_with_the_batch() -> None:
    layers = [{"conv": {"channels": 4, "stride": 2}}, "relu", "flatten"]
    spec = resolve(
        {
            "input": [1, 8, 8],
            "encoder": layers,
            "bottleneck": {"gaussian": {"latent": 2}},
            "decoder": [{"linear": {"features": 64}}, {"unflatten": {"to": [1, 8, 8]}}],
        }
    )
    one, two = activation_bytes(spec, 1), activation_bytes(spec, 2)
    # The images, the convolution's map (once, though three operations keep it), the latent and what belongs to it.
    assert 4 * (64 + 64 + 4 * 16) <= one <= 4 * 4 * (64 + 64 + 4 * 16)
    assert two > 1.8 * one
    assert estimate_memory(spec).bytes(1) > one
    assert estimate_memory(spec).bytes(9) - estimate_memory(spec).bytes(8) >= two - one


def test_several_latents_of_an_image_multiply_what_the_decoder_keeps() -> None:
    spec = resolve({"preset": "torch-vae", "input": [1, 32, 32], "max_filters": 16, "latent": 4})
    one, four = (activation_bytes(spec, 2, samples=samples) for samples in (1, 4))
    # The encoder runs once, the decoder once for each latent.
    assert 2 * one < four < 4 * one
    assert estimate_memory(spec, samples=4).per_image > 2 * estimate_memory(spec).per_image
    assert estimate_memory(spec, samples=4).fixed == pytest.approx(estimate_memory(spec).fixed, rel=0.01)
