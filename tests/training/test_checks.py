"""What makes no sense together is refused before a run begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import convae
from convae.core.errors import ConfigError
from convae.data import DataConfig, open_split
from convae.evaluation import evaluate
from convae.training.recipe.reading import read_recipe
from convae.training.vae.build import build_task

MODEL = {"preset": "torch-vae", "latent": 2, "max_filters": 4}
KINDS = {"uint8": 255, "uint16": 65535, "float32": 1, "bool": 1}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVAE_CACHE", str(tmp_path / "cache"))


def images(folder: Path, kind: str) -> str:
    values = np.random.default_rng(0).random((20, 8, 8)) * KINDS[kind]
    np.save(folder / f"{kind}.npy", values > 0.5 if kind == "bool" else values.astype(kind))
    return str(folder / f"{kind}.npy")


def recipe(data: Any, likelihood: Any, **beside: Any) -> Any:
    objective = {"reconstruction": 1, "kl": 1}
    training = {"epochs": 1, "batch_size": 8}
    return read_recipe(
        {
            "data": data,
            "model": {**MODEL, "likelihood": likelihood},
            "objective": objective,
            "training": training,
            **beside,
        }
    )


@pytest.mark.parametrize(
    ("kind", "levels", "part"),
    [
        ("uint8", 256, None),
        ("bool", 256, None),
        ("uint8", 65536, None),
        ("uint16", 65536, None),
        ("uint16", 256, "levels: 65536"),
        ("uint8", 2, "levels: 256"),
        ("uint8", 200, "levels: 256"),
        ("float32", 256, "floats.*gaussian"),
    ],
)
def test_a_probability_of_levels_knows_those_of_the_data(
    kind: str, levels: int, part: str | None, tmp_path: Path
) -> None:
    likelihood = {"discretized-logistic": {"levels": levels}}
    source = images(tmp_path, kind)
    split = open_split(DataConfig(source=source), "test")
    model = convae.build({**MODEL, "input": [1, 8, 8], "likelihood": likelihood})
    if part is None:
        build_task(recipe(source, likelihood))
        assert "bits-per-dimension" in evaluate(model, split, metrics=["bits-per-dimension"]).metrics
        return
    with pytest.raises(ConfigError, match=part):
        build_task(recipe(source, likelihood))
    with pytest.raises(ConfigError, match=part):
        evaluate(model, split)


def test_a_density_has_no_levels(tmp_path: Path) -> None:
    for kind in ("uint16", "float32"):
        build_task(recipe(images(tmp_path, kind), "gaussian"))


@pytest.mark.parametrize("weight", [-1, {"linear": {"start": 0.5, "end": -0.5}}], ids=str)
def test_a_negative_weight_is_refused(weight: Any) -> None:
    objective = {"reconstruction": 1, "kl": {"weight": weight}}
    with pytest.raises(ConfigError, match=r"objective\.kl\.weight"):
        build_task(recipe("digits", "bernoulli", objective=objective))


def test_a_classifier_that_no_term_trains_is_refused() -> None:
    model = {**MODEL, "classifier": [{"linear": {"features": 10}}]}
    with pytest.raises(ConfigError, match=r"objective\.classification"):
        build_task(recipe("digits", "bernoulli", model=model))
    objective = {"reconstruction": 1, "kl": 1, "classification": 1}
    build_task(recipe("digits", "bernoulli", model=model, objective=objective))
