"""One rule for paths, in every command and from every directory."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from command import run

from convae.training import memory

MODEL = {"preset": "torch-vae", "input": [1, 8, 8], "max_filters": 4, "latent": 2}
TRAINING = {"steps": 2, "batch_size": 2, "pictures_every": 0, "device": "cpu"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, shared_cache: Path) -> Path:
    """A folder with `sets/photos`, `recipes/r.yaml` and, trained from within it, `home/run`."""
    import numpy as np
    from PIL import Image

    folder = tmp_path_factory.mktemp("paths")
    (folder / "sets" / "photos").mkdir(parents=True)
    (folder / "recipes").mkdir()
    (folder / "elsewhere").mkdir()
    generator = np.random.default_rng(0)
    for number in range(10):
        Image.fromarray(generator.integers(0, 256, (8, 8), np.uint8)).save(folder / "sets/photos" / f"{number}.png")
    recipe = {"data": "../sets/photos", "model": MODEL, "training": TRAINING}
    (folder / "recipes" / "r.yaml").write_text(json.dumps(recipe))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONVAE_CACHE", str(shared_cache))
        patch.setenv("HOME", str(folder / "home"))
        patch.chdir(folder)
        run("train", "recipes/r.yaml", "--out=~/run")
    return folder


@pytest.fixture
def elsewhere(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(trained / "home"))
    monkeypatch.chdir(trained / "elsewhere")
    return trained


def test_a_run_stores_absolute_paths(elsewhere: Path) -> None:
    stored = yaml.safe_load((elsewhere / "home/run/recipe.yaml").read_text())
    assert stored["data"]["source"] == str(elsewhere / "sets/photos")
    assert not (elsewhere / "~").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", "~/run", "--metrics", "mse", "--json=~/figures/e.json"],
        ["evaluate", "../home/run", "--metrics", "mse", "--data", "../sets/photos"],
        ["encode", "~/run", "--out=~/latents"],
        ["interpolate", "~/run", "~/one.png", "0", "--out=~/pictures"],
        ["sample", "~/run", "--count", "2", "--out=~/samples"],
        ["show", "~/run"],
        ["train", "--resume=~/run"],
        ["train", "~/../recipes/r.yaml", "--dry-run", "--out=~/planned"],
        ["data", "~/../sets/photos", "--out=~/sheets"],
        ["find-batch-size", "~/../recipes/r.yaml", "training.batch_size=1", "--memory", "1GB"],
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_commands_work_from_elsewhere_with_the_home_directory(
    arguments: list[str], elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each measurement is a process of its own, which is given the recipe and no path.
    monkeypatch.setattr(memory, "measure_memory", lambda _recipe, images, _limit: (300 << 20) + images)
    shutil.copy(elsewhere / "sets/photos/0.png", elsewhere / "home/one.png")
    run(*arguments)
    assert list((elsewhere / "elsewhere").iterdir()) == []


def test_where_plans_go(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(elsewhere / "elsewhere")
    run("train", "../recipes/r.yaml", "--dry-run", "--out", ".")
    assert list((elsewhere / "elsewhere").iterdir()) == []
    (elsewhere / "elsewhere-plan.png").unlink()


def test_a_recipe_may_have_an_equals_sign_in_its_name(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = elsewhere / "recipes" / "size=8.yaml"
    shutil.copy(elsewhere / "recipes" / "r.yaml", recipe)
    run("train", recipe, "training.steps=3", "--dry-run", "--out", elsewhere / "home/planned")
    assert "│     3 │" in capsys.readouterr().out
    recipe.unlink()
    run("train", recipe, code=2)


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "hf://user/model"],
        ["evaluate", "hf://user/model"],
        ["encode", "s3://bucket/model", "--out", "latents"],
        ["train", "--data", "https://host/photos.zip"],
        ["train", "--data", "digits", "--out", "gs://bucket/run"],
        ["train", "https://host/recipe.yaml"],
        ["data", "{folder: {path: 'ftp://host/photos'}}"],
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_urls_are_shown_as_they_were_written(
    arguments: list[str], elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = next(word for argument in arguments for word in argument.replace("'", " ").split() if "://" in word)
    run(*arguments, code=2)
    error = capsys.readouterr().err
    assert f"{url}: URL" in error
    assert list((elsewhere / "elsewhere").iterdir()) == []
