"""What a person types after `convae train`, right and wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from command import run
from PIL import Image
from training.runs import RECIPE

from convae.cli.train import train
from convae.core.errors import ConfigError, ConvaeError
from convae.training import run as run_module
from convae.training.recipe.reading import read_recipe
from convae.training.recipe.schema import Recipe


class CaughtError(Exception):
    """Carries the recipe that would have been trained."""


@pytest.fixture
def caught(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Calls `convae train` and gives the recipe that it would train."""

    def instead(recipe: Any, *, overrides: Any, **_: Any) -> None:
        raise CaughtError(read_recipe(recipe, overrides))

    monkeypatch.setattr("convae.training.train", instead)

    def call(*arguments: str, **options: Any) -> Recipe:
        with pytest.raises(CaughtError) as found:
            train(arguments=list(arguments), **options)
        recipe: Recipe = found.value.args[0]
        return recipe

    return call


def test_short_options_reach_their_keys(caught: Any) -> None:
    recipe = caught(
        data="digits", size="16", channels=1, beta=4.0, steps=100, name="mine", minutes=2.0, likelihood="gaussian"
    )
    assert (recipe.data.size, recipe.data.channels) == ((16, 16), 1)
    assert recipe.objective["kl"]["weight"] == 4
    assert (recipe.training.steps, recipe.training.minutes) == (100, 2)
    assert recipe.name == "mine"
    assert recipe.model["likelihood"] == "gaussian"
    recipe = caught(data="digits", likelihood="{gaussian: {sigma: learned}}")
    assert recipe.model["likelihood"] == {"gaussian": {"sigma": "learned"}}


def test_epochs_take_the_place_of_the_steps_of_a_recipe(caught: Any, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({**RECIPE, "training": {"steps": 1000}}))
    training = caught(str(path), epochs=2).training
    assert (training.epochs, training.steps) == (2, None)
    with pytest.raises(ConfigError, match="--steps"):
        train(data="digits", epochs=1, steps=1)


def test_beta_scales_a_schedule_and_keeps_its_shape(caught: Any, tmp_path: Path) -> None:
    from convae.objective.schedules.base import Moment, build_schedule

    path = tmp_path / "recipe.yaml"
    for weight, at_one in ({"linear": {"epochs": 2}}, 2.0), ({"linear": {"epochs": 2, "start": 2, "end": 8}}, 2.5):
        path.write_text(yaml.safe_dump({**RECIPE, "objective": {"reconstruction": {}, "kl": {"weight": weight}}}))
        made = build_schedule(caught(str(path), beta=4.0).objective["kl"]["weight"], "weight")
        assert made(Moment(8, 1.0, 0.1)) == pytest.approx(at_one)
        assert made(Moment(80, 10.0, 1.0)) == pytest.approx(4)


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"objective": {"reconstruction": {}}}, "kl"),
        ({"objective": {"reconstruction": {}, "kl": {"weight": {"linear": {"start": 1, "end": 0}}}}}, "ends at 0"),
        (
            {"stages": [{"epochs": 1}, {"epochs": 1, "objective": {"kl": 2}}], "training": {}},
            "stages.1.objective.kl.weight",
        ),
    ],
)
def test_beta_is_refused_where_it_would_not_be_the_weight(changed: Any, word: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({**RECIPE, **changed}))
    with pytest.raises(ConfigError, match=word):
        train(arguments=[str(path)], beta=4.0)


def test_beta_is_finite(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(RECIPE))
    with pytest.raises(ConfigError, match=r"--beta.*finite"):
        train(arguments=[str(path)], beta=float("inf"))


@pytest.mark.parametrize(
    ("assignment", "meant"),
    [
        ("size=64", "'data.size'"),
        ("kl.weight=4", "'objective.kl.weight'"),
        ("beta=4", "'objective.kl.weight'"),
        ("latent=8", "'model.latent'"),
        ("lr=1", "'training.optimizer.lr'"),
        ("training.lr=1", "'training.optimizer.lr'"),
        ("training.latent=8", "'model.latent'"),
        ("flip=0.5", "'data.augment.flip'"),
        ("batch-size=4", "'training.batch_size'"),
        ("epoch=3", "'training.epochs'"),
        ("data.siz=3", "size'"),
    ],
)
def test_an_unknown_key_is_found_on_other_levels(assignment: str, meant: str) -> None:
    with pytest.raises(ConfigError) as error:
        read_recipe({"data": "digits"}, [assignment])
    assert meant in str(error.value)


def test_all_faults_are_told_before_any_data_are_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("the data were opened")

    monkeypatch.setattr("convae.training.vae.build._read_data", never)
    model = {"preset": "torch-vae", "bottleneck": "fsq"}
    written = {"data": "mnist", "model": model, "objective": {"adverserial": {}, "kl": {"weight": "lienar"}}}
    for call in (
        lambda: run_module.train(written, out=tmp_path / "run"),
        lambda: train(
            arguments=[
                "model.preset=torch-vae",
                "model.bottleneck=fsq",
                "objective={adverserial: 1, kl: {weight: lienar}}",
            ],
            data="mnist",
            dry_run=True,
        ),
    ):
        with pytest.raises(ConvaeError) as error:
            call()
        assert all(word in str(error.value) for word in ("adverserial", "fsq", "lienar"))
    assert not (tmp_path / "run").exists()


def test_a_bottleneck_without_its_terms_is_told_before_any_data_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convae.training.vae.build._read_data", None)
    with pytest.raises(ConfigError, match="commitment"):
        train(arguments=["fashion-vq", "objective={reconstruction: 1}"], dry_run=True)


def test_pictures_in_color_get_a_gaussian_likelihood_and_few_images_enough_steps(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    generator = np.random.default_rng(0)
    for number in range(40):
        Image.fromarray(generator.integers(0, 256, (8, 8, 3), np.uint8)).save(photos / f"{number}.png")
    from convae.training.vae.build import build_task

    made = build_task(read_recipe({"data": str(photos), "training": {"batch_size": 4}}))
    assert made.recipe.model["likelihood"] == {"gaussian": {"sigma": "learned"}}
    per_epoch = made.batches.steps_per_epoch
    assert made.plan.total_steps([0]) >= 1000 > made.plan.total_steps([0]) - per_epoch
    assert "--likelihood" in made.notes[0]
    assert "--epochs" in made.notes[1]
    own = {"model": {"preset": "torch-vae", "likelihood": "bernoulli"}, "training": {"epochs": 2}}
    made = build_task(read_recipe({"data": str(photos), **own}))
    assert made.recipe.model["likelihood"] == "bernoulli"
    assert made.recipe.training.epochs == 2
    assert not made.notes
    gray = build_task(read_recipe({"data": "digits"}))
    assert "likelihood" not in gray.recipe.model
    signals = build_task(read_recipe({"data": {"source": {"signals": {"count": 40}}}, "model": "torch-vae"}))
    assert signals.recipe.model["likelihood"] == {"gaussian": {"sigma": "learned"}}


@pytest.mark.parametrize("words", [("a.yaml", "b.yaml"), ("training.epochs", "=3"), ("demo", "training.epochs", "3")])
def test_words_that_belong_together_are_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"key\.path=value"):
        train(arguments=[*words])


def test_a_folder_in_the_place_of_a_recipe_says_what_it_is_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos").mkdir()
    run("train", tmp_path / "photos", code=2)
    assert f"--data {tmp_path / 'photos'}" in capsys.readouterr().err
    (tmp_path / "photos" / "recipe.yaml").write_text("data: digits")
    run("train", tmp_path / "photos", code=2)
    assert f"--resume {tmp_path / 'photos'}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("train", "--latent-dim", "8"), "--latent?"),
        (("train", "--learning-rate", "1"), "--lr?"),
        (("train", "--image-size", "64"), "--size?"),
        (("train", "--batchsize", "64"), "--batch-size?"),
        (("train", "--batch_size", "64"), "--batch-size?"),
        (("train", "--epoch", "3"), "--epochs?"),
        (("train", "--kl-weight", "3"), "--beta?"),
        (("train", "--training.epochs", "3"), "key.path=value"),
        (("train", "--dataset", "mnist"), "--data?"),
        (("sample", "run", "--n", "3"), "--count?"),
        (("sample", "run", "--output", "x"), "--out?"),
        (("presets", "--xyzzy"), "convae presets --help"),
    ],
)
def test_an_unknown_option_is_told_the_right_one(
    words: tuple[str, ...], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run(*words, code=2)
    assert meant in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "meant"), [("digits", "--data digits"), ("digitz", "--data digits"), ("resnet", "--preset resnet")]
)
def test_a_data_set_or_a_preset_in_the_place_of_a_recipe_is_told_its_option(word: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=meant):
        train(arguments=[word])


def test_a_folder_of_images_may_have_the_name_of_a_packaged_recipe(
    caught: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    assert caught("photos", "data=photos/").name == "photos"
    (tmp_path / "photos" / "recipe.yaml").write_text("data: digits")
    run("train", "photos", code=2)
    assert "photos: is a run" in capsys.readouterr().err
