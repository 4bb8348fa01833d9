"""The scripts that turn data of other packages into arrays, and the recipes for them, on small made data."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import convae
from convae.training.recipe.reading import read_recipe

EXAMPLES = Path(__file__).parents[2] / "examples"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_series_are_read_with_their_classes() -> None:
    values, labels = script("real_signals").read_series(["#a note", "@data", "0.5,-1,2:1", "", "1,2,3:2\n"])
    np.testing.assert_array_equal(values, np.array([[0.5, -1, 2], [1, 2, 3]], np.float32))
    assert labels.tolist() == [0, 1]


def test_blocks_lie_in_their_region_and_in_the_brain() -> None:
    volume = np.zeros((48, 96, 24), np.uint8)
    volume[:24] = np.arange(1, 97, dtype=np.uint8)[:, None]  # the value says the place along the second axis
    cubes = script("real_volumes").blocks(volume, 24, 72, 24)
    assert cubes.shape == (2, 24, 24, 24)
    assert [(int(cube.min()), int(cube.max())) for cube in cubes] == [(25, 48), (49, 72)]


@pytest.mark.parametrize(("recipe", "shape"), [("power-days", (24,)), ("brain", (24, 24, 24))])
def test_a_recipe_trains_on_data_of_its_form(
    recipe: str, shape: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONVAE_CACHE", str(tmp_path / "cache"))
    file = Path(read_recipe(recipe).data.source["arrays"]["path"])  # type: ignore[index]  # it is a mapping in both
    draws = np.random.default_rng(0)
    parts = {name: draws.integers(0, 4, (count, *shape), np.uint8) for name, count in (("train", 8), ("test", 2))}
    np.savez(tmp_path / file.name, **({name: part.astype(np.float32) for name, part in parts.items()}))  # type: ignore[arg-type]
    small = ["training.epochs=1", "training.batch_size=4", "training.pictures_every=0", "training.precision=float32"]
    if recipe == "brain":
        np.savez(tmp_path / file.name, **parts)  # type: ignore[arg-type]
    run = convae.train(recipe, overrides=small, out=tmp_path / "run")
    assert run.model.input_shape == (1, *shape)
    assert "# " + recipe in (run.path / "model" / "README.md").read_text(encoding="utf-8")
