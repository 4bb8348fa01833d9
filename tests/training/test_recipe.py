"""What a recipe says of its model: in any notation, with or without its input, from files beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from training.runs import RECIPE

from convae.core.errors import ConfigError, ConvaeError, DataError
from convae.describe import build, resolve
from convae.training import train
from convae.training.recipe.reading import read_recipe
from convae.training.vae.build import build_task

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
    made = build_task(read_recipe({**RECIPE, "name": "mine", "model": model, "data": {"source": "digits", **data}}))
    assert made.model.input_shape == shape
    assert made.model.name == name
    again = build_task(made.recipe)
    assert again.recipe == made.recipe


def test_a_model_without_any_name_has_that_of_its_run_from_the_first_step_on() -> None:
    made = build_task(read_recipe({key: value for key, value in RECIPE.items() if key != "name"}))
    assert made.model.name == "digits-vae"
    assert build_task(made.recipe).model.name == "digits-vae"


def test_images_of_several_sizes_need_one_for_a_list_of_layers(tmp_path: Path) -> None:
    for side in range(8, 28):
        Image.new("L", (side, 8)).save(tmp_path / f"{side}.png")
    with pytest.raises(DataError, match=r"data\.size"):
        build_task(read_recipe({**RECIPE, "model": LISTS, "data": str(tmp_path)}))


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


SOURCES: list[tuple[Any, Any]] = [
    ("sets/photos", "AT/sets/photos"),
    ("photos", "AT/photos"),
    ("~/photos", "HOME/photos"),
    ({"folder": {"path": "photos"}}, {"folder": {"path": "AT/photos"}}),
    ({"arrays": {"path": "x.npy", "channels": "last"}}, {"arrays": {"path": "AT/x.npy", "channels": "last"}}),
    ({"manifest": {"path": "t.csv"}}, {"manifest": {"path": "AT/t.csv"}}),
    ({"files": {"paths": ["a.png", "~/b.png"]}}, {"files": {"paths": ["AT/a.png", "HOME/b.png"]}}),
    ({"hugging-face": {"path": "./local"}}, {"hugging-face": {"path": "AT/local"}}),
    ({"hugging-face": {"path": "user/set"}}, {"hugging-face": {"path": "user/set"}}),
    ({"sprites": {"count": 9}}, {"sprites": {"count": 9}}),
    ("mnist", "mnist"),
]


@pytest.mark.parametrize(("written", "stored"), SOURCES)
def test_paths_are_relative_to_the_recipe_or_the_working_directory_and_stored_absolute(
    written: Any, stored: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "recipes").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")
    compare = {"perceptual": {"network": {"encoder": {"model": "runs/p"}}, "weight": 2}}
    recipe = {**RECIPE, "data": {"source": written, "dir": "sets"}, "objective": {"kl": {}, **compare}}
    stages = [{"epochs": 1, "objective": compare}]
    training = {"batch_size": 8}
    Path("recipes/r.json").write_text(json.dumps({**recipe, "stages": stages, "training": training}))

    def at(folder: Path, value: Any) -> Any:
        return json.loads(json.dumps(value).replace("AT", str(folder)).replace("HOME", "/home/somebody"))

    read = read_recipe("recipes/r.json")
    assert read.data.source == at(tmp_path / "recipes", stored)
    assert read.data.dir == tmp_path / "recipes/sets"
    assert read.objective["perceptual"] == {
        "network": {"encoder": {"model": str(tmp_path / "recipes/runs/p")}},
        "weight": 2,
    }
    assert read.stages[0].objective["perceptual"]["network"]["encoder"]["model"] == str(tmp_path / "recipes/runs/p")
    overrides = [
        f"data.source={json.dumps(written)}",
        "objective.perceptual.network.encoder.model=runs/q",
        "data.dir=~/sets",
    ]
    overridden = read_recipe("recipes/r.json", overrides)
    assert overridden.data.source == at(tmp_path, stored)
    assert overridden.data.dir == Path("/home/somebody/sets")
    assert overridden.objective["perceptual"]["network"]["encoder"]["model"] == str(tmp_path / "runs/q")
    assert read_recipe(recipe).data.source == at(tmp_path, stored)
    monkeypatch.chdir("/")
    assert read_recipe(read) == read


@pytest.mark.parametrize("name", ["../x", "/x", "-rf", " ", ".lock", "a\nb", "nul"])
def test_a_name_is_no_path(name: str, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(json.dumps({**RECIPE, "name": name}))
    with pytest.raises(ConfigError, match="name: "):
        read_recipe(tmp_path / "r.json")
    with pytest.raises(ConfigError, match="name: "):
        read_recipe(RECIPE, [f"name={json.dumps(name)}"])


@pytest.mark.parametrize("source", ["/", ".", "..", "/a/-rf", "/a/x\ny", "/a/caf\udce9", "/a/.hidden"])
def test_a_run_without_a_name_has_a_safe_one(source: str) -> None:
    title = read_recipe({**RECIPE, "data": source}).title
    assert read_recipe({**RECIPE, "data": source, "name": title}).name == title


@pytest.mark.parametrize(
    "key", ["data.source", "data.dir", "model", "start.model", "objective.perceptual.network.encoder.model"]
)
def test_no_path_holds_a_nul(key: str) -> None:
    with pytest.raises(ConfigError, match="NUL"):
        read_recipe(RECIPE, [f'{key}="a\\0b"'])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("model.py", "arch_def = {}", "convae train --data DATA model="),
        ("model.yaml", "{preset: dcgan}", "model description"),
        ("recipe.yaml", "{data: digits, model: net.json}", "net.json: no such file"),
        ("recipe.yaml", "{data: digits, model: 3}", "model: must be a preset name, a file path or a mapping, got 3"),
        ("recipe.yaml", "{data: digits, model: recipe.yaml}", "circular reference"),
    ],
)
def test_other_files_than_recipes_are_errors(name: str, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_recipe(tmp_path / name)


def test_a_preset_in_place_of_a_recipe_is_an_error() -> None:
    with pytest.raises(ConfigError, match="--preset torch-vae"):
        read_recipe("torch-vae")


@pytest.mark.parametrize(
    ("option", "path"),
    [
        ("size=64", "data.size"),
        ("kl.weight=4", "objective.kl.weight"),
        ("lr=1e-3", "training.optimizer.lr"),
        ("latent=4", "model.latent"),
        ("epochz=3", "training.epochs"),
    ],
)
def test_a_key_on_the_wrong_level_is_found_by_its_last_part(option: str, path: str) -> None:
    with pytest.raises(ConfigError, match=rf"'{path}'"):
        read_recipe({"data": "digits"}, [option])


def test_model_and_objective_are_checked_before_the_data_and_together(tmp_path: Path) -> None:
    recipe = {
        "data": {"source": "mnist", "dir": str(tmp_path), "download": False},
        "model": {"preset": "torch-vae", "bottleneck": "fsqq"},
        "objective": {"adverserial": 1, "perceptual": {"network": {"encoder": {"model": str(tmp_path / "vgg16")}}}},
    }
    with pytest.raises(ConvaeError) as caught:
        train(recipe, out=tmp_path / "run")
    for part in ("fsqq", "adverserial", "vgg16"):
        assert part in str(caught.value)
    assert "mnist" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def _objective(model: Any, *overrides: str, **options: Any) -> dict[str, Any]:
    return read_recipe({"data": "digits", "model": model, **options}, list(overrides)).objective


INSIDE = {**LISTS, "encoder": [*LISTS["encoder"], {"quantize": {"simvq": {"codes": 4}}}]}
CODES: dict[str, Any] = {
    "fsq": {"fsq": {"levels": [3, 3]}},
    "vq": {"vq": {"codes": 4, "latent": 2}},
    "gradient": {"vq": {"codes": 4, "latent": 2, "update": "gradient"}},
    "ibq": {"grouped": {"groups": 2, "latent": 4, "quantizer": {"ibq": {"codes": 4}}}},
}


@pytest.mark.parametrize(
    ("model", "terms"),
    [
        ("torch-vae", {"kl": 1}),
        (ARCH_DEF, {"kl": 1}),
        ({"preset": "ladder"}, {"kl": 1}),
        ({"preset": "vq-vae-2"}, {"commitment": 0.25}),
        ({**LISTS, "bottleneck": CODES["fsq"]}, {}),
        ({**LISTS, "bottleneck": CODES["vq"]}, {"commitment": 0.25}),
        ({**LISTS, "bottleneck": CODES["gradient"]}, {"commitment": 0.25, "codebook": 1}),
        ({**LISTS, "bottleneck": CODES["ibq"]}, {"commitment": 0.25, "codebook": 1, "entropy": 0.1}),
        (INSIDE, {"kl": 1, "commitment": 0.25, "codebook": 1}),
    ],
)
def test_the_default_objective_has_kl_for_gaussians_and_the_required_terms(model: Any, terms: dict[str, float]) -> None:
    found = {name: given.get("weight", 1) for name, given in _objective(model).items()}
    assert found == {"reconstruction": 1, **terms}


def test_overrides_change_the_default_objective_that_belongs_to_the_overridden_model() -> None:
    bottleneck = "model.bottleneck={vq: {codes: 4, latent: 2}}"
    found = _objective("torch-vae", bottleneck, "objective.commitment=2", "objective.sparse.weight=3")
    assert found == {"reconstruction": {}, "commitment": {"weight": 2}, "sparse": {"weight": 3}}
    assert _objective("torch-vae", bottleneck, "objective={reconstruction: 2}") == {"reconstruction": {"weight": 2}}
    assert _objective("torch-vae", "objective.kl=4")["kl"] == {"weight": 4}
    assert _objective("torch-vae", "objective.kl=null") == {"reconstruction": {}}


def test_a_model_of_codes_trains_without_an_objective_from_a_description_and_as_an_object(tmp_path: Path) -> None:
    described = {"preset": "vq-vae-2", "input": [1, 8, 8], "channels": 8, "latent": 3, "codes": 8}
    short = {"data": RECIPE["data"], "training": {"steps": 1, "batch_size": 8, "pictures_every": 0}}
    terms = {"reconstruction": {}, "commitment": {"weight": 0.25}}
    for name, model in {"described": described, "object": build(described)}.items():
        run = train({**short, "model": model}, out=tmp_path / name)
        assert run.recipe.objective == terms
        assert read_recipe(tmp_path / name / "recipe.yaml").objective == terms
