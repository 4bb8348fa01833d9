"""One meaning of `--data`: other data is used whole, read and labeled as the training data was."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import run
from narrow import present
from PIL import Image

import convae
from convae.core.errors import ConfigError
from convae.data import DataConfig, match_classes, open_split
from convae.evaluation import evaluate
from convae.latents import class_number, read_latents
from convae.model.provenance import Provenance


def network(**more: Any) -> convae.VAE:
    return convae.build(
        {
            "name": "tiny",
            "input": [1, 8, 8],
            "encoder": [{"conv": {"channels": 4, "stride": 2}}, "relu", "flatten"],
            "bottleneck": {"gaussian": {"latent": 3}},
            "decoder": [{"linear": {"features": 64}}, {"unflatten": {"to": [1, 8, 8]}}],
            **more,
        }
    )


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8), np.uint8))


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty images in the class folders one, seven and zero."""
    folder = tmp_path_factory.mktemp("shapes")
    for number in range(30):
        path = folder / ("one", "seven", "zero")[number % 3] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        picture(number).save(path)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, shapes: Path) -> dict[str, Path]:
    """A plain model of the shapes, one with a classifier and a conditional one."""
    folder = tmp_path_factory.mktemp("models")
    made = {
        "plain": network(),
        "classifier": network(classifier=[{"linear": {"features": 3}}]),
        "conditional": network(condition={"classes": 3}),
    }
    for name, model in made.items():
        model.provenance = Provenance(data={"source": str(shapes)}, classes=["one", "seven", "zero"])
        convae.save(model, folder / name)
    return {name: folder / name for name in made}


@pytest.fixture
def part(shapes: Path, tmp_path: Path) -> Path:
    """The shapes without their first class."""
    for name in ("seven", "zero"):
        shutil.copytree(shapes / name, tmp_path / "part" / name)
    return tmp_path / "part"


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """Twelve images without labels, and two files that are none."""
    (tmp_path / "flat").mkdir()
    for number in range(12):
        picture(100 + number).save(tmp_path / "flat" / f"{number}.png")
    for number in range(2):
        (tmp_path / "flat" / f"bad{number}.png").write_bytes(b"no image")
    return tmp_path / "flat"


COMMANDS: dict[str, list[str]] = {
    "evaluate": ["--metrics", "mse"],
    "reconstruct": ["--out", "OUT"],
    "encode": ["--out", "OUT"],
    "anomalies": ["--out", "OUT"],
    "clusters": ["--count", "2", "--out", "OUT"],
    "scatter": ["--out", "OUT"],
    "neighbors": ["0", "--out", "OUT"],
    "interpolate": ["0", "1", "--out", "OUT"],
    "traverse": ["--out", "OUT"],
    "manifold": ["--steps", "2", "--out", "OUT"],
}


def words(command: str, model: Path, out: Path) -> list[object]:
    given = [out if word == "OUT" else word for word in COMMANDS[command]]
    positions = [word for word in given if str(word).isdigit() and command in {"neighbors", "interpolate"}]
    return [command, model, *positions, *given[len(positions) :]]


@pytest.mark.parametrize("command", COMMANDS)
def test_other_data_is_used_whole_and_every_command_says_so(
    command: str, models: dict[str, Path], flat: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(*words(command, models["plain"], tmp_path / "out"), "--data", flat)
    said = capsys.readouterr().err
    assert "12 of 12 images (all)" in said
    assert "2 skipped" in said
    assert "bad0.png" in said
    assert "skipped.csv" in said
    run(*words(command, models["plain"], tmp_path / "part"), "--data", flat, "--split", "train")
    assert "of 12 images (train)" in capsys.readouterr().err


def test_the_training_data_keeps_its_split_however_it_is_named(
    models: dict[str, Path], shapes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(shapes.parent)
    for named in (
        [str(shapes)],
        [shapes.name],
        [f"./{shapes.name}/"],
        [f"{{folder: {{path: {shapes.name}, megapixels: 80}}}}"],
    ):
        run("evaluate", models["plain"], *[word for name in named for word in ("--data", name)], "--metrics", "mse")
        assert "of 30 images (test)" in capsys.readouterr().err


def table_of(model: Path, out: Path, *more: object) -> list[dict[str, str]]:
    run("encode", model, *more, "--format", "csv", "--out", out)
    with next(out.glob("*.csv")).open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("kind", ["plain", "conditional", "classifier"])
def test_labels_of_other_data_are_matched_by_name(
    kind: str, models: dict[str, Path], shapes: Path, part: Path, tmp_path: Path
) -> None:
    whole = {row["name"]: row for row in table_of(models[kind], tmp_path / "whole", "--data", shapes)}
    some = table_of(models[kind], tmp_path / "some", "--data", part)
    assert len(some) == 20
    for row in some:
        assert row["label"] == whole[row["name"]]["label"] == {"seven": "1", "zero": "2"}[row["class"]]


def test_a_class_that_the_model_does_not_know_is_named(
    models: dict[str, Path], part: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (part / "zero").rename(part / "eight")
    run("evaluate", models["classifier"], "--data", part, "--metrics", "accuracy", "--json", tmp_path / "a.json")
    said = capsys.readouterr().err
    assert "'eight' (10 images)" in said
    assert "one, seven, zero" in said
    run("evaluate", models["conditional"], "--data", part, "--metrics", "mse", code=2)
    said = capsys.readouterr().err
    assert "10 of 20 images" in said
    assert "--label" in said
    run("evaluate", models["conditional"], "--data", part, "--metrics", "mse", "--label", "zero")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_conditional_model_takes_images_without_labels_as_a_class(
    command: str, models: dict[str, Path], flat: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = words(command, models["conditional"], tmp_path / "out")
    run(*given, "--data", flat, code=2)
    assert "--label" in capsys.readouterr().err
    run(*given, "--data", flat, "--label", "seven")


def test_images_are_encoded_as_the_class_that_is_said(
    models: dict[str, Path], shapes: Path, flat: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "seven"):
        run("encode", models["conditional"], "--data", flat, "--label", name, "--out", tmp_path / name)
    one, seven = (read_latents(tmp_path / name)[0] for name in ("one", "seven"))
    assert one.labels is not None
    assert seven.labels is not None
    assert (set(one.labels.tolist()), set(seven.labels.tolist())) == ({0}, {1})
    assert not np.allclose(one.mean, seven.mean)
    run("encode", models["conditional"], "--data", shapes, "--label", "one", "--out", tmp_path / "own", code=2)
    assert "has a label of its own" in capsys.readouterr().err
    run("encode", models["plain"], "--data", flat, "--label", "one", "--out", tmp_path / "own", code=2)
    assert "not conditional" in capsys.readouterr().err


def test_an_array_is_read_as_the_training_arrays_were(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = np.random.default_rng(0).integers(-500, 1500, (40, 1, 8, 8)).astype(np.int32)
    for name, array in {"train": values, "more": values[:10]}.items():
        np.save(tmp_path / f"{name}.npy", array)
    model = network()
    source = {"path": str(tmp_path / "train.npy"), "channels": "first", "range": [-500, 1500]}
    model.provenance = Provenance(data={"source": {"arrays": source}})
    place = convae.save(model, tmp_path / "model")
    trained = json.dumps({"arrays": source})
    run("encode", place, "--data", trained, "--out", tmp_path / "own")
    run("encode", place, "--data", tmp_path / "more.npy", "--out", tmp_path / "more")
    assert "range [-500, 1500]" in capsys.readouterr().err
    own, more = (read_latents(tmp_path / name)[0].mean for name in ("own", "more"))
    np.testing.assert_array_equal(own[:10], more)
    # What a person says holds.
    given = f"{{arrays: {{path: {tmp_path / 'more.npy'}, range: [-1000, 2000]}}}}"
    run("encode", place, "--data", given, "--out", tmp_path / "other")
    assert not np.allclose(read_latents(tmp_path / "other")[0].mean, more)


def test_the_label_column_of_training_holds_for_other_tables(tmp_path: Path) -> None:
    for number in range(6):
        picture(number).save(tmp_path / f"{number}.png")
    for name, numbers in {"train": range(6), "more": range(2, 6)}.items():
        lines = [f"{number}.png,{'ab'[number % 2]},{'xyz'[number % 3]}" for number in numbers]
        (tmp_path / f"{name}.csv").write_text("path,hand,kind\n" + "\n".join(lines) + "\n")
    model = network()
    model.provenance = Provenance(
        data={"source": str(tmp_path / "train.csv"), "label": "kind"}, classes=["x", "y", "z"]
    )
    place = convae.save(model, tmp_path / "model")
    rows = table_of(place, tmp_path / "out", "--data", tmp_path / "more.csv")
    assert [row["class"] for row in rows] == ["z", "x", "y", "z"]


@pytest.mark.parametrize(
    ("names", "word", "number"),
    [
        (["cat", "dog"], "dog", 1),
        (["cat", "dog"], "1", 1),
        (["2", "5", "9"], "5", 1),
        (["2", "5", "9"], "1", None),
        (["1", "0"], "1", 0),
        (["0", "1"], "1", 1),
        (["cat", "2"], "0", None),
        (["00", "01"], "1", 1),
        (["cat", "dog"], "2", None),
    ],
)
def test_a_class_is_a_name_first_and_a_number_only_where_no_name_is_another_number(
    names: list[str], word: str, number: int | None
) -> None:
    called = dict(enumerate(names))
    if number is None:
        with pytest.raises(ConfigError) as caught:
            class_number(word, called)
        assert all(name in str(caught.value) for name in names)
    else:
        assert class_number(word, called) == number


def test_a_library_call_refuses_classes_that_are_numbered_otherwise(models: dict[str, Path], part: Path) -> None:
    model = convae.load(models["classifier"])
    split = open_split(DataConfig(source=str(part)), "all")
    with pytest.raises(ConfigError, match="match_classes"):
        evaluate(model, split, metrics=["accuracy"])
    matched, unknown = match_classes(split, present(model.provenance.classes))
    assert unknown == {}
    assert evaluate(model, matched, metrics=["accuracy"]).metrics["accuracy"].value is not None
    assert split.content_hash != matched.content_hash


def test_numbers_without_names_are_numbers_of_names_or_names(tmp_path: Path) -> None:
    images = np.zeros((3, 8, 8), np.uint8)
    np.savez(tmp_path / "a.npz", images=images, labels=np.array([2, 5, -1]))
    split = open_split(DataConfig(source=str(tmp_path / "a.npz")), "all")

    def matched(*names: str) -> tuple[list[int], dict[str, int]]:
        found, unknown = match_classes(split, names)
        assert found.labels is not None
        return found.labels.tolist(), unknown

    assert matched("2", "5", "9") == ([0, 1, -1], {})
    assert matched("a", "b", "c", "d", "e", "f") == ([2, 5, -1], {})
    assert matched("a", "b", "c") == ([2, -1, -1], {"5": 1})
    assert matched("5", "9") == ([-1, 0, -1], {"2": 1})
    assert present(match_classes(split, ["9"], extend=True)[0].labels).tolist() == [1, 2, -1]


def test_image_files_are_read_with_the_range_of_the_training_images(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(100, 1000, (6, 8, 8)).astype(np.uint16)
    (tmp_path / "deep").mkdir()
    for number, image in enumerate(values):
        Image.fromarray(image).save(tmp_path / "deep" / f"{number}.png")
    model = network()
    source = {"path": str(tmp_path / "deep"), "range": [0, 1023]}
    model.provenance = Provenance(data={"source": {"folder": source}})
    place = convae.save(model, tmp_path / "model")
    shutil.copytree(tmp_path / "deep", tmp_path / "other")
    ways: dict[str, list[object]] = {
        "by file": [tmp_path / "deep" / "0.png"],
        "by name": ["0.png", "--data", json.dumps({"folder": source}), "--split", "all"],
        "other": ["0.png", "--data", tmp_path / "other"],
    }
    for name, more in ways.items():
        run("reconstruct", place, *more, "--out", tmp_path / name)
    drawn = []
    for name in ("by file", "by name", "other"):
        with Image.open(tmp_path / name / "reconstructions.png") as sheet:
            drawn.append(np.asarray(sheet))
    assert np.array_equal(drawn[0], drawn[2])
    assert np.array_equal(drawn[0][-40:], drawn[1][-40:])
