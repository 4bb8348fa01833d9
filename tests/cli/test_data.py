from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from command import run
from PIL import Image


def test_a_data_set_is_described_and_shown(tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (photos / "dogs" / "broken.png").write_text("no image")
    run("data", photos, "size=16", "resize_mode=pad", "--out", tmp_path)
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
    run("data", "sprites", "source.sprites.count=9", "source.sprites.size=16", "label=color", "--out", tmp_path)
    out = capsys.readouterr().out
    assert "3×16×16" in out
    assert "column rotation" in out
    run("data", "{sprites: {count: 9, size: 16}}", "label=color", "--out", tmp_path, "--force")
    assert capsys.readouterr().out == out
    run("data", "{sprites: {", "--out", tmp_path, code=2)
    assert re.search(r"SOURCE line \d: not valid YAML", capsys.readouterr().err)
    run("data", "sprites", "szie=16", "--out", tmp_path, code=2)
    assert "did you mean 'size'" in capsys.readouterr().err


def test_a_folder_of_several_sizes_is_described_by_its_headers(
    photos: Path, capsys: pytest.CaptureFixture[str], shared_cache: Path
) -> None:
    with Image.open(photos / "dogs" / "0.png") as image:
        image.resize((200, 150)).convert("RGB").save(photos / "dogs" / "large.jpg")
        image.resize((50, 40)).save(photos / "sheet.tif", save_all=True, append_images=[image, image])
    Image.new("RGBA", (60, 70)).save(photos / "cats" / "logo.webp")
    (photos / "cats" / "broken.png").write_text("no image")
    before = {path.name for path in (shared_cache / "stores").glob("*")}
    run("data", photos)
    said = capsys.readouterr()
    for fact in (
        "10", "10×12 … 150×200", "10×12: 6", "40×50: 1", "PNG: 6", "TIFF: 1", "L: 7", "RGB: 1", "RGBA: 1", "8: 9",
        "11 in 9 files, 1 ", "1 of 9 images, composited over white", "cats: 5; dogs: 4; without one: 1", "broken.png",
        "proposed size",
    ):  # fmt: skip
        assert fact in said.out, fact
    assert {path.name for path in (shared_cache / "stores").glob("*")} == before, "nothing is decoded"
    assert "pages: all" in said.err
    (option,) = [word for word in said.err.split() if word.startswith("size=")]
    for spelling in (option, f"data.{option}"):
        run("data", photos, spelling)
        assert f"3×{option[5:]}×{option[5:]}" in capsys.readouterr().out


def test_a_contact_sheet_of_several_sizes_needs_one(
    tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Image.open(photos / "dogs" / "0.png") as image:
        image.resize((20, 20)).save(photos / "dogs" / "large.png")
    run("data", photos, "--out", tmp_path, code=2)
    assert "size=16" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("kind", "top", "option"),
    [("uint16", 4095, "[0, 4095]"), ("uint16", 300, "[0, 511]"), ("uint8", 1, "[0, 1]"), ("uint8", 60, "[0, 63]")],
)
@pytest.mark.parametrize("suffix", ["npy", "tif", "csv"])
def test_images_of_a_sliver_of_their_range_are_named_with_the_range_that_spreads_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, top: int, option: str, suffix: str
) -> None:
    cells = np.random.default_rng(0).integers(0, top + 1, (9, 8, 8)).astype(kind)
    cells[:, 0, :2] = 0, top
    place = tmp_path / "cells" / "a.npy"
    place.parent.mkdir()
    if suffix == "npy":
        np.save(place, cells)
    else:
        for number, cell in enumerate(cells):
            Image.fromarray(cell).save(tmp_path / "cells" / f"{number}.tif")
        place = tmp_path / "cells"
    if suffix == "csv":
        place = place / "table.csv"
        place.write_text("path\n" + "".join(f"{number}.tif\n" for number in range(9)))
    run("data", place)
    told = capsys.readouterr().err
    for fact in ("all 9", f"{top} of {65535 if kind == 'uint16' else 255}", option):
        assert fact in told
    source = told[told.index("{") :].strip().replace("...", str(place))
    run("data", source, "--out", tmp_path)
    said = capsys.readouterr()
    assert f"0.0000…{top / int(option[4:-1])}"[:11] in said.out
    assert said.err == ""


def test_training_says_what_data_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells = np.random.default_rng(0).integers(0, 200, (40, 8, 8), dtype=np.uint16)
    np.save(tmp_path / "cells.npy", cells)
    options = ("--preset", "torch-vae", "--epochs", "1", "model.max_filters=8", "training.pictures_every=0")
    run("train", "--data", tmp_path / "cells.npy", *options, "--out", tmp_path / "run")
    told = capsys.readouterr().err
    assert "range: [0, 255]" in told
    assert "values up to" in told
    source = f"{{arrays: {{path: {tmp_path / 'cells.npy'}, range: [0, 255]}}}}"
    run("train", "--data", source, *options, "--out", tmp_path / "other")
    assert "values up to" not in capsys.readouterr().err
