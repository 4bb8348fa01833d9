from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command import run
from PIL import Image


def test_a_data_set_is_described_and_shown(tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (photos / "dogs" / "broken.png").write_text("no image")
    run("data", photos, "size=16", "fit=pad", "--out", tmp_path)
    out = capsys.readouterr().out.replace("\n", "")
    for words in (
        "1×16×16 uint8",
        "pad from 10×12",
        "cats: 3; dogs: 3",
        "train 4",
        "1 (listed in",
        "MB in",
    ):
        assert words in out
    sheet = tmp_path / f"folder-{photos.name}.png"
    assert str(sheet) in out
    with Image.open(sheet) as image:
        assert min(image.size) > 100


def test_the_figures_are_those_of_the_digits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sklearn.datasets import load_digits

    run("data", "digits", "--out", tmp_path)
    out = capsys.readouterr().out
    images = load_digits().images / 16
    assert f"{images.mean():.3f}"[:5] in out
    assert "1,797" in out
    assert "0: 178" in out
    assert "crop" not in out, "they are stored at their own size"
    capsys.readouterr()
    run("data", "digits")
    assert ".png" not in capsys.readouterr().out, "a sheet is drawn where it was asked for"
    run("data", "digits", "--out", tmp_path, code=2)
    assert "--force" in capsys.readouterr().err


def test_a_name_with_a_slash_makes_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convae.data.sources.digits.Digits.name", "hugging-face org/set, part")
    run("data", "digits", "--out", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["hugging-face-org-set-part.png"]


def test_options_of_a_data_set_reach_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("data", "sprites", "source.sprites.count=9", "source.sprites.size=16", "label=colour", "--out", tmp_path)
    out = capsys.readouterr().out
    assert "3×16×16" in out
    assert "column rotation" in out
    run("data", "{sprites: {count: 9, size: 16}}", "label=colour", "--out", tmp_path, "--force")
    assert capsys.readouterr().out == out
    run("data", "{sprites: {", "--out", tmp_path, code=2)
    assert "SOURCE line 1: not valid YAML" in capsys.readouterr().err
    run("data", "sprites", "szie=16", "--out", tmp_path, code=2)
    assert "did you mean 'size'" in capsys.readouterr().err


def test_options_may_be_written_as_in_a_recipe(
    tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Image.open(photos / "dogs" / "0.png") as image:
        image.resize((20, 20)).save(photos / "dogs" / "large.png")
    run("data", photos, "--out", tmp_path, code=2)
    told = capsys.readouterr().err
    (option,) = [word for word in told.replace(", 64]", ",64]").split() if "=" in word]
    run("data", photos, option, "--out", tmp_path)
    assert "1×64×64" in capsys.readouterr().out


def test_dark_images_of_16_bits_are_told_with_the_range_that_lights_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = np.random.default_rng(0).integers(300, 7100, (9, 8, 8), dtype=np.uint16)
    cells[0, 0, :2] = 300, 7100
    np.save(tmp_path / "cells.npy", cells)
    run("data", tmp_path / "cells.npy", "--out", tmp_path)
    told = capsys.readouterr().err
    assert "their values reach 11% of what 16 bits hold" in told
    source = told[told.index("{arrays") :].strip().replace("...", str(tmp_path / "cells.npy"))
    assert "range: [300, 7100]" in source
    run("data", source, "--out", tmp_path, "--force")
    said = capsys.readouterr()
    assert "0.0000…1.0000" in said.out
    assert said.err == ""
    # A training takes the same words.
    options = ("--preset", "torch-vae", "--epochs", "1", "model.max_filters=8", "training.pictures_every=0")
    run("train", "--data", source, *options, "--out", tmp_path / "run")
