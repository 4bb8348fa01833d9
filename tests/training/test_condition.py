"""A conditional model: trained, resumed, measured and encoded with the labels that the data has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from narrow import narrow
from PIL import Image
from training.runs import RECIPE, StopAt, content

from convae.core.errors import ConfigError
from convae.data import DataConfig, open_split
from convae.evaluation import evaluate, score_images
from convae.latents import decode, encode
from convae.pictures.grid import grid
from convae.training import Run, resume, train

CONDITIONAL: dict[str, Any] = {
    **RECIPE,
    "model": {**RECIPE["model"], "condition": {"classes": 10}},
    "training": {**RECIPE["training"], "epochs": 5, "batch_size": 50, "optimizer": {"lr": 1e-2}},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(CONDITIONAL, out=tmp_path_factory.mktemp("conditional") / "run")


def test_what_the_label_says_the_latent_need_not(run: Run, tmp_path: Path) -> None:
    digits = open_split(DataConfig(source="digits"), "test")
    measured = evaluate(run.model, digits, metrics=["elbo", "nll"], options={"nll": {"samples": 4}})
    plain = train({**CONDITIONAL, "model": RECIPE["model"]}, out=tmp_path / "plain")
    without = narrow(float, evaluate(plain.model, digits, metrics=["elbo"]).metrics["elbo"].value)
    elbo, nll = (narrow(float, measured.metrics[name].value) for name in ("elbo", "nll"))
    assert elbo > without + 1
    assert nll < -elbo
    scores = score_images(run.model, digits).values
    assert scores.shape == (len(digits),)


def test_decoded_with_another_label_an_image_changes_its_class(run: Run) -> None:
    digits = open_split(DataConfig(source="digits"), "test")
    encoding = encode(run.model, digits)
    assert encoding.labels is not None
    own = decode(run.model, encoding.mean, labels=encoding.labels)
    other = decode(run.model, encoding.mean, labels=(encoding.labels + 1) % 10)
    given = digits.images(list(range(len(digits)))).float() / 255
    assert (own - given).square().mean() < 0.9 * (other - given).square().mean()


def test_a_conditional_run_resumes_bit_for_bit(tmp_path: Path) -> None:
    recipe = {**CONDITIONAL, "training": {**CONDITIONAL["training"], "epochs": 1, "pictures_every": 1}}
    train(recipe, out=tmp_path / "unbroken")
    train(recipe, out=tmp_path / "run", callback=StopAt(11))
    resume(tmp_path / "run")
    assert content(tmp_path / "run") == content(tmp_path / "unbroken")
    assert list((tmp_path / "run" / "pictures").glob("*-interpolations.png"))
    with Image.open(tmp_path / "run" / "pictures" / "epoch-0001-samples.png") as sheet:
        drawn = torch.zeros(64, *RECIPE["model"]["input"])
        assert sheet.size == grid(drawn, captions=["0"] * 64, title="samples").size, "each sample tells its class"
        assert sheet.size != grid(drawn, title="samples").size


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"model": {**CONDITIONAL["model"], "condition": {"classes": 4}}},
            "classes 0 to 3, but digits has 9",
        ),
        ({"training": {"labels": 100}}, r"training\.labels: a conditional model needs the label of every image"),
    ],
)
def test_data_without_the_labels_that_it_needs_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        train({**CONDITIONAL, **change}, out=tmp_path / "run")


def test_images_without_labels_are_refused_by_a_trained_model(run: Run) -> None:
    digits = open_split(DataConfig(source="digits"), "test")
    digits.labels = None
    for call in (evaluate, encode, score_images):
        with pytest.raises(ConfigError, match="is conditional and needs labels, but digits has none"):
            call(run.model, digits)
    with pytest.raises(ConfigError, match="latents has 12"):
        decode(run.model, torch.zeros(1, 3), labels=torch.tensor([12]))


def test_a_validation_part_without_labels_is_refused_before_training(tmp_path: Path) -> None:
    for name in ("train/a/1", "train/a/2", "train/b/3", "train/b/4", "val/5"):
        path = tmp_path / "set" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 20 * int(name[-1])).save(path)
    recipe = {**CONDITIONAL, "data": {"source": str(tmp_path / "set")}}
    with pytest.raises(ConfigError, match=r"data\.validation=0.* has 1 image without a label"):
        train(recipe, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
