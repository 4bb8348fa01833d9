"""The output of a new decoder starts at the mean of the training images, which the run records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from narrow import present
from training.runs import model_of

import convae
from convae.training.loop.trainer import Callback, Trainer

SPEC = {"preset": "torch-vae", "input": [1, 16, 16], "latent": 2, "max_filters": 8}


class Beginning(Callback):
    """The model's values before the first step."""

    def on_train_start(self, trainer: Trainer) -> None:
        self.values = {name: value.clone() for name, value in model_of(trainer).state_dict().items()}


def begin(
    path: Path, images: np.ndarray[Any, Any], **recipe: Any
) -> tuple[tuple[float, ...] | None, dict[str, torch.Tensor]]:
    """The recorded mean, and the initial weights."""
    options = {"steps": 1, "batch_size": 20, "pictures_every": 0, **recipe.pop("training", {})}
    seen = Beginning()
    run = convae.train({"model": SPEC, **recipe, "training": options}, data=images, out=path, callback=seen)
    return run.recipe.training.image_mean, seen.values


def shades(*values: float) -> np.ndarray[Any, Any]:
    """Twenty nearly uniform images of each value in [0, 1], (image, channel, height, width)."""
    noise = np.random.default_rng(0).normal(scale=0.01, size=(20 * len(values), 1, 16, 16))
    return (np.repeat(values, 20)[:, None, None, None] + noise).astype(np.float32)


def test_a_new_run_starts_at_the_mean_of_all_of_its_images(tmp_path: Path) -> None:
    mean, values = begin(tmp_path / "run", shades(*np.linspace(0.1, 0.3, 30)))  # more than are measured, and sorted
    (found,) = present(mean)
    assert found == pytest.approx(0.2, abs=0.01)
    expected = convae.build(SPEC, image_mean=[found]).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in values.items())


def test_missing_values_are_no_part_of_the_mean(tmp_path: Path) -> None:
    data = shades(0.2, 0.6)
    data[:20, :, 4:] = np.nan
    mean, _ = begin(tmp_path / "run", data, data={"missing": "nan"})
    assert present(mean) == pytest.approx((0.52,), abs=0.03)


def test_a_mean_of_the_recipe_is_kept(tmp_path: Path) -> None:
    mean, values = begin(tmp_path / "run", shades(0.2), training={"image_mean": [0.5]})
    assert mean == (0.5,)
    assert values["decoder.8.bias"].item() == 0


@pytest.mark.parametrize("parts", [[], ["encoder"]])
def test_only_a_decoder_with_random_weights_starts_at_the_mean(parts: list[str], tmp_path: Path) -> None:
    saved = convae.build(SPEC, seed=5)
    mean, values = begin(tmp_path / "run", shades(0.2), start={"model": saved, "parts": parts})
    assert (mean is None) == (not parts)
    assert values["decoder.8.bias"].item() == pytest.approx(-1.386 if parts else 0, abs=0.001)
