"""What the commands make of a conditional model, whose images have to be of a class."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import run
from PIL import Image

import convae
from convae.data import DataConfig, load_and_preprocess, open_split, to_tensor
from convae.model.provenance import Provenance
from convae.pictures import grid as grid_module

NAMES = list("0123456789")


@pytest.fixture(scope="module")
def conditional(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = convae.build(
        {
            "name": "tiny",
            "input": [1, 8, 8],
            "encoder": [{"conv": {"channels": 4, "stride": 2}}, "relu", "flatten"],
            "bottleneck": {"gaussian": {"latent": 3}},
            "decoder": [{"linear": {"features": 64}}, {"unflatten": {"to": [1, 8, 8]}}],
            "condition": {"classes": 10},
        }
    )
    model.provenance = Provenance(data={"source": "digits"}, classes=NAMES)
    return convae.save(model, tmp_path_factory.mktemp("models") / "tiny")


def below_the_title(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)[60:]


@pytest.mark.parametrize(
    "words",
    [
        ["reconstruct"],
        ["reconstruct", "--label", "0"],
        ["interpolate", "0", "5", "3"],
        ["interpolate", "0", "FILE", "--label", "1"],
        ["traverse", "--label", "1"],
        ["traverse", "--image", "0"],
        ["translate", "0", "1", "--positive", "DOGS", "--negative", "CATS"],
        ["manifold", "--steps", "3", "--label", "2"],
        ["clusters", "--count", "3"],
        ["clusters", "--count", "3", "--label", "4"],
        ["neighbors", "0", "FILE", "--label", "1"],
        ["scatter"],
        ["anomalies"],
        ["ood", "--ood-data", "FLAT", "--label", "1"],
        ["sample", "--label", "1", "--count", "2"],
    ],
    ids=" ".join,
)
def test_every_command_takes_a_conditional_model(
    words: list[str], conditional: Path, photos: Path, tmp_path: Path
) -> None:
    for name in ("dogs", "cats"):
        for kind in ("3", "5"):  # the classes
            shutil.copytree(photos / name, tmp_path / name / kind)
    places = {
        "FILE": photos / "dogs" / "0.png",
        "FLAT": photos / "dogs",
        "DOGS": tmp_path / "dogs",
        "CATS": tmp_path / "cats",
    }
    run(words[0], conditional, *(places.get(word, word) for word in words[1:]), "--out", tmp_path / "out")
    assert list((tmp_path / "out").glob("*.png"))


@pytest.mark.parametrize("label", ["1", None])
def test_the_class_of_images_without_labels_is_given(
    label: str | None, conditional: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Path(shutil.copytree(conditional, tmp_path / "model"))
    for number in range(8):
        (tmp_path / "flat").mkdir(exist_ok=True)
        shutil.copy(photos / "dogs" / "0.png", tmp_path / "flat" / f"{number}.png")
    options = ["--data", tmp_path / "flat", *([] if label is None else ["--label", label])]
    code = 2 if label is None else 0
    run("latents", "stats", model, *options, code=code)
    exported = ["--precision", "float16", "--graph", "encode", "--count", "8", "--out", tmp_path / "out"]
    run("export", model, *options, *exported, code=code)
    assert capsys.readouterr().err.count("(--label)") == (2 if label is None else 0)


def test_images_are_encoded_as_what_they_are_and_drawn_as_what_is_asked_for(
    conditional: Path, photos: Path, tmp_path: Path
) -> None:
    photos = Path(shutil.copytree(photos, tmp_path / "photos"))
    for name, kind in (("dogs", "7"), ("cats", "2")):  # numbered by the model's classes, not by those that are there
        (photos / name).rename(photos / kind)
    run(
        "reconstruct", conditional, "--data", photos, "--split", "all", "--every", "--label", 7, "--out", tmp_path / "7"
    )
    run("encode", conditional, "--data", photos, "--out", tmp_path / "latents")
    run("decode", conditional, tmp_path / "latents", "--label", 7, "--out", tmp_path / "decoded")
    model = convae.load(conditional)
    split = open_split(DataConfig(source=str(photos), size=(8, 8), channels=1), "all")
    for name in split.keys:
        image = to_tensor(load_and_preprocess(photos / name, (8, 8), channels=1))[None]
        with torch.no_grad():
            z = model.encode(image, torch.tensor([int(name.partition("/")[0])])).mean
            wanted = model.decode(z, torch.tensor([7])).mean[0, 0].numpy()
        for folder in ("7", "decoded"):
            found = np.asarray(Image.open(tmp_path / folder / name)) / 255
            assert np.abs(found - wanted).max() <= 0.5 / 255 + 1e-6


def test_a_way_is_drawn_as_the_class_that_it_begins_with(conditional: Path, tmp_path: Path) -> None:
    split = open_split(DataConfig(source="digits"), "test")
    assert split.labels is not None
    first, other = (int(split.labels[index]) for index in (0, 1))
    assert first != other
    run("interpolate", conditional, 0, 1, "--out", tmp_path / "own")
    for label in (first, other):
        run("interpolate", conditional, 0, 1, "--label", NAMES[label], "--out", tmp_path / str(label))
    own, as_first, as_other = (
        below_the_title(tmp_path / name / "interpolation.png") for name in ("own", str(first), str(other))
    )
    assert np.array_equal(own, as_first)
    assert not np.array_equal(own, as_other)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["traverse"], "--label"),
        (["manifold"], "--label"),
        (["interpolate", "0", "FILE"], "0.png (--label)"),
        (["neighbors", "0", "--label", "cat"], "unknown class 'cat'"),
        (["decode", "LATENTS", "--label", "10"], "unknown class '10'"),
        (["translate", "0", "--label", "3"], "convae reconstruct --label"),
        (["reconstruct", "--data", "FLAT"], "--label"),
        (["clusters", "--data", "FLAT"], "--label"),
        (["neighbors", "0", "--data", "FLAT"], "--label"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_class_that_nobody_says_is_asked_for_in_one_sentence(
    words: list[str],
    sentence: str,
    conditional: Path,
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = {"FILE": photos / "dogs" / "0.png", "FLAT": photos / "dogs"}
    run(words[0], conditional, *(places.get(word, word) for word in words[1:]), "--out", tmp_path / "out", code=2)
    told = capsys.readouterr().err
    assert sentence in told
    assert len(told.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_the_sheet_of_clusters_says_what_class_centroids_are_decoded_as(
    conditional: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles: list[str] = []
    draw = grid_module.grid

    def caught(*images: Any, title: str, **options: Any) -> Image.Image:
        titles.append(title)
        return draw(*images, title=title, **options)

    monkeypatch.setattr(grid_module, "grid", caught)
    run("clusters", conditional, "--count", 3, "--out", tmp_path / "own")
    run("clusters", conditional, "--count", 3, "--label", 4, "--out", tmp_path / "four")
    assert ["most frequent class" in title for title in titles] == [True, True, False, False]
    assert ["decoded as 4" in title for title in titles] == [False, False, True, True]
