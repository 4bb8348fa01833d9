"""A run knows the images that it was trained on, and says what changed when it goes on or is measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import run
from PIL import Image
from training.runs import StopAt

import convae
from convae.data import DataConfig, open_split
from convae.training import resume, train
from convae.training.loop.trainer import Callback


class Notes(Callback):
    """What an callback is told in words."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def on_message(self, sentence: str) -> None:
        self.sentences.append(sentence)


def picture(seed: int, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8), np.uint8)).save(path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(60):
        picture(number, tmp_path / "photos" / ("cat" if number % 2 else "dog") / f"{number:02d}.png")
    return tmp_path / "photos"


def recipe(photos: Path) -> dict[str, Any]:
    return {
        "data": str(photos),
        "model": {
            "encoder": ["flatten"],
            "bottleneck": {"gaussian": {"latent": 2}},
            "decoder": [{"linear": {"features": 64}}, {"unflatten": {"to": [1, 8, 8]}}],
            "input": [1, 8, 8],
        },
        "training": {"epochs": 2, "batch_size": 8, "pictures_every": 0},
    }


def test_a_run_that_goes_on_with_other_data_says_what_changed(photos: Path, tmp_path: Path) -> None:
    train(recipe(photos), out=tmp_path / "run", callback=StopAt(2))
    same = Notes()
    resume(tmp_path / "run", callback=same)
    assert not any("images" in sentence for sentence in same.sentences)

    train(recipe(photos), out=tmp_path / "other", callback=StopAt(2))
    for number in range(100, 103):
        picture(number, photos / "cat" / f"{number}.png")
    (photos / "dog" / "00.png").unlink()
    told = Notes()
    resumed = resume(tmp_path / "other", callback=told)
    (sentence,) = [sentence for sentence in told.sentences if "the data changed" in sentence]
    assert "added" in sentence
    assert "1 removed" in sentence
    # No image moved from one part to another.
    assert "0 of " in sentence
    assert "from another split" not in sentence
    assert sentence in resumed.notes


def test_evaluate_on_a_run_says_what_changed_and_which_other_images_were_trained_on(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(recipe(photos), out=tmp_path / "run")
    capsys.readouterr()
    run("evaluate", tmp_path / "run", "--metrics", "mse")
    assert "trained on" not in capsys.readouterr().err
    picture(200, photos / "dog" / "new.png")
    for place in ("run", "run/model", "run/last"):
        run("evaluate", tmp_path / place, "--metrics", "mse")
        said = capsys.readouterr().err
        assert "1 added" in said
        assert "already used for training: 0 of " in said
    trained = open_split(DataConfig(source=str(photos)), "train").keys
    other = tmp_path / "elsewhere"
    other.mkdir()
    for name in trained[:3]:
        (other / Path(name).name).write_bytes((photos / name).read_bytes())
    picture(300, other / "unseen.png")
    run("evaluate", tmp_path / "run", "--data", other, "--metrics", "mse")
    said = capsys.readouterr().err
    assert "4 of 4 images (all)" in said
    assert "3 of these 4 images were trained on" in said


def test_an_artifact_holds_counts_and_hashes_of_each_part(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(recipe(photos), out=tmp_path / "run")
    model = convae.load(tmp_path / "run")
    assert model.provenance.classes == ("cat", "dog")
    for name in ("train", "validation", "test"):
        split = open_split(DataConfig(source=str(photos), size=(8, 8), channels=1), name)
        kept = model.provenance.splits[name]
        assert (kept.count, kept.content_hash) == (len(split), split.content_hash)
    convae.save(model, tmp_path / "alone")
    run("evaluate", tmp_path / "alone", "--data", photos, "--metrics", "mse")
    assert "not those of the training" not in capsys.readouterr().err
    test = open_split(DataConfig(source=str(photos)), "test").keys
    picture(400, photos / test[0])
    run("evaluate", tmp_path / "alone", "--data", photos, "--split", "all", "--metrics", "mse")
    capsys.readouterr()
    run("evaluate", tmp_path / "alone", "--data", photos, "--metrics", "mse", "--json", tmp_path / "found.json")
    assert "test images are not those of the training" in capsys.readouterr().err
    assert json.loads((tmp_path / "found.json").read_text())["protocol"]["data"]["content_hash"]
