"""What a recipe says of its model: in any notation, with or without its input, from files beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from training.runs import RECIPE

from convae.core.errors import DataError
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


def test_images_of_several_sizes_need_one_for_a_list_of_layers(tmp_path: Path) -> None:
    for side in range(8, 28):
        Image.new("L", (side, 8)).save(tmp_path / f"{side}.png")
    with pytest.raises(DataError, match=r"set data\.size"):
        experiment(read_recipe({**RECIPE, "model": LISTS, "data": str(tmp_path)}))
