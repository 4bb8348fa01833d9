"""What a recipe says of its model: in any notation, with or without its input, from files beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from training.runs import RECIPE

from convae.core.errors import ConfigError, DataError
from convae.model.spec import resolve
from convae.training.experiment import experiment
from convae.training.recipe import read_recipe

LISTS: dict[str, Any] = {key: value for key, value in RECIPE["model"].items() if key != "input"}
ARCH_DEF: dict[str, Any] = {"latent": 2, "encode": [[4, 3, 2]]}


@pytest.mark.parametrize(
    ("model", "data", "shape", "name"),
    [
        (LISTS, {}, (1, 8, 8), "mine"),
        (ARCH_DEF, {"size": [12, 10], "channels": 3}, (3, 12, 10), "mine"),
        ({**ARCH_DEF, "name": "own"}, {}, (1, 8, 8), "own"),
        ({"preset": "torch-vae", "max_filters": 8}, {"size": 16}, (1, 16, 16), "torch-vae"),
    ],
    ids=["lists", "arch_def", "named", "preset"],
)
def test_what_a_model_leaves_open_comes_from_the_data_and_the_recipe(
    model: dict[str, Any], data: dict[str, Any], shape: tuple[int, ...], name: str
) -> None:
    made = experiment(read_recipe({**RECIPE, "name": "mine", "model": model, "data": {"source": "digits", **data}}))
    assert made.model.input_shape == shape
    assert made.model.name == name
    again = experiment(made.recipe)
    assert again.recipe == made.recipe


def test_a_model_without_any_name_has_that_of_its_run_from_the_first_step_on() -> None:
    made = experiment(read_recipe({key: value for key, value in RECIPE.items() if key != "name"}))
    assert made.model.name == "digits-vae"
    assert experiment(made.recipe).model.name == "digits-vae"


def test_images_of_several_sizes_need_one_for_a_list_of_layers(tmp_path: Path) -> None:
    for side in range(8, 28):
        Image.new("L", (side, 8)).save(tmp_path / f"{side}.png")
    with pytest.raises(DataError, match=r"set data\.size"):
        experiment(read_recipe({**RECIPE, "model": LISTS, "data": str(tmp_path)}))


def test_files_that_a_recipe_names_lie_beside_it_and_those_of_overrides_where_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "recipes"
    folder.mkdir()
    (folder / "encoder.json").write_text(json.dumps(LISTS["encoder"]))
    (folder / "model.py").write_text("arch_def = {'input': (8, 8, 1), 'latent': 2, 'encode': [(4, 3, (2, 2))]}")
    lists = {**RECIPE, "model": {**RECIPE["model"], "encoder": "encoder.json"}}
    (folder / "lists.yaml").write_text(json.dumps(lists))
    (folder / "python.yaml").write_text(json.dumps({**RECIPE, "model": "model.py"}))
    (tmp_path / "other.json").write_text(json.dumps({"latent": 3, "encode": [[4, 3, 2]]}))
    monkeypatch.chdir(tmp_path)
    assert read_recipe(Path("recipes/lists.yaml")) == read_recipe(RECIPE)
    assert read_recipe("recipes/python.yaml").model["latent"] == 2
    assert read_recipe("recipes/python.yaml", ["model=other.json"]).model["latent"] == 3
    assert resolve("recipes/lists.yaml") == resolve(RECIPE["model"])
    assert read_recipe({"data": "digits", "model": "recipes/model.py"}).model["latent"] == 2


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("model.py", "arch_def = {}", "describes a model, no training: convae train --data DATA model="),
        ("model.yaml", "{preset: dcgan}", "describes a model, no training"),
        ("recipe.yaml", "{data: digits, model: net.json}", "net.json: no such file"),
        ("recipe.yaml", "{data: digits, model: 3}", "model: needs a preset's name, a file's path or a mapping, got 3"),
        ("recipe.yaml", "{data: digits, model: recipe.yaml}", "its model leads back to this file"),
    ],
)
def test_a_file_that_is_no_recipe_says_what_it_is(name: str, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_recipe(tmp_path / name)


def test_a_preset_in_place_of_a_recipe_is_told_apart() -> None:
    with pytest.raises(ConfigError, match="a preset is trained by --preset torch-vae"):
        read_recipe("torch-vae")
