"""Training on arrays and datasets that a program holds, and one's own loop with convae's objective."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset
from training.runs import RECIPE, StopAt, content

import convae
from convae.core.errors import ConfigError
from convae.training import resume, train

IMAGES = np.random.default_rng(1).integers(0, 256, (300, 1, 8, 8), dtype=np.uint8)
MODEL = {key: value for key, value in RECIPE.items() if key != "data"}
RECIPE_WITHOUT_DATA: dict[str, Any] = {**MODEL, "training": {**MODEL["training"], "batch_size": 50, "epochs": 2}}


@pytest.mark.parametrize("form", ["array", "dataset"])
def test_a_run_on_given_data_resumes_bit_for_bit(form: str, tmp_path: Path) -> None:
    data: Any = IMAGES if form == "array" else TensorDataset(torch.from_numpy(IMAGES))
    run = train(RECIPE_WITHOUT_DATA, data=data, out=tmp_path / "unbroken")
    assert run.recipe.data.source["given"]["images"] == 300  # type: ignore[index]
    assert run.model.provenance.training is not None
    train(RECIPE_WITHOUT_DATA, data=data, out=tmp_path / "run", callback=StopAt(7))
    with pytest.raises(ConfigError, match="data="):
        resume(tmp_path / "run")
    with pytest.raises(ConfigError, match="other data"):
        resume(tmp_path / "run", data=IMAGES[::-1].copy())
    resume(tmp_path / "run", data=data)
    assert content(tmp_path / "run") == content(tmp_path / "unbroken")


def test_a_model_object_is_trained_on_an_array(tmp_path: Path) -> None:
    model = convae.build(RECIPE["model"])
    recipe = {"model": model, "training": {"steps": 3, "batch_size": 20, "pictures_every": 0}}
    run = train(recipe, data=IMAGES / 255.0, validation=IMAGES[:40], out=tmp_path / "run")
    assert not run.stopped
    assert "total" in run.best


def test_data_are_given_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="twice"):
        train(RECIPE, data=IMAGES, out=tmp_path / "run")
    with pytest.raises(ConfigError, match="data="):
        train(RECIPE, labels=[1, 2], out=tmp_path / "run")


def test_an_objective_without_a_term_for_the_prior_is_noted(tmp_path: Path) -> None:
    recipe = {**RECIPE_WITHOUT_DATA, "objective": {"reconstruction": 1}}
    short = {**recipe, "training": {**recipe["training"], "epochs": None, "steps": 2}}
    assert any("prior" in note for note in train(short, data=IMAGES, out=tmp_path / "run").notes)
