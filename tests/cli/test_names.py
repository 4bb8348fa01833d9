"""Names are bytes: what folders and files are called keeps no command from its work."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from command import run
from PIL import Image

import convae
from convae.core.files import encode_text

CLASSES = [
    *("caf\udce9", "new\nline", "tab\there", "key=val", "\x1b[31mred", "quo'te\"s", "$\\frac$", "_x", "w" * 200),
]
FILES = ["caf\udce9.png", "x\ny.png", "=1.png", "\x1b]0;pwn\x07.png", 'a, "b".png', "n" * 240 + ".png"]
TRAINING = ["--steps", "2", "--batch-size", "8", "--preset", "torch-vae", "--latent", "2", "--size", "8"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, shared_cache: Path) -> Path:
    """A folder with `data`, whose classes and images have such names, and `run`, trained on it and resumed."""
    folder = tmp_path_factory.mktemp("names") / "ou\udce9t=1\n#: {y}"
    generator = np.random.default_rng(0)
    for number, name in enumerate(CLASSES):
        (folder / "data" / name).mkdir(parents=True)
        for file in FILES:
            pixels = (generator.integers(0, 64, (8, 8)) + 16 * number).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "data" / name / file)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONVAE_CACHE", str(shared_cache))
        run("train", "--data", folder / "data", *TRAINING, "--out", folder / "run")
        run("train", "--resume", folder / "run")
    return folder


@pytest.mark.parametrize(
    "command",
    [
        ["evaluate", "--metrics", "mse", "--json", "OUT/e.json", "--html", "OUT/e.html"],
        ["anomalies", "--split", "all", "--out", "OUT"],
        ["clusters", "--count", "2", "--split", "all", "--out", "OUT"],
        ["scatter", "--split", "all", "--out", "OUT"],
        ["reconstruct", "--every", "--split", "all", "--out", "OUT"],
        ["neighbors", "0", "--out", "OUT"],
        ["interpolate", "0", "1", "--out", "OUT"],
        ["sample", "--labeled", "--count", "1", "--confidence", "0", "--out", "OUT"],
    ],
    ids=lambda command: command[0],
)
def test_commands_bear_any_name(
    command: list[str], trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(command[0], trained / "run", *(word.replace("OUT", str(tmp_path / "out")) for word in command[1:]))
    printed = capsys.readouterr()
    assert "\x1b]" not in printed.out + printed.err
    assert "\x1b[31m" not in printed.out + printed.err
    assert any((tmp_path / "out").iterdir())


@pytest.mark.parametrize("form", ["safetensors", "npz", "parquet", "csv"])
def test_latents_keep_the_bytes_of_names_and_are_decoded(form: str, trained: Path, tmp_path: Path) -> None:
    run("encode", trained / "run", "--format", form, "--out", tmp_path / "latents")
    run("decode", trained / "run", tmp_path / "latents", "--out", tmp_path / "images")
    encoding, _ = convae.latents.read_latents(tmp_path / "latents")
    names = [f"{kind}/{file}" for kind in CLASSES for file in FILES]
    if form in ("csv", "parquet"):  # tables hold text, in which bytes that are none are escapes
        names = [encode_text(name).decode() for name in names]
    assert sorted(encoding.names) == sorted(names)


def test_pictures_show_what_cannot_be_drawn_as_escapes() -> None:
    from convae.pictures.grid import grid
    from convae.pictures.save import encoded
    from convae.pictures.scatter import scatter

    names = [*CLASSES, "日本"]
    points = np.random.default_rng(0).normal(size=(len(names), 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = scatter(points, names, x_label="x", y_label="y", title=names[0])
        assert encoded(figure, ".svg")
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(texts) == len(names)
    assert {"caf\\xe9", "new\\nline", "\\x1b[31mred", "$\\frac$"} <= set(texts)
    assert max(map(len, texts)) < 60
    sheet = grid(np.zeros((len(names), 1, 8, 8), np.float32), captions=names, title=names[-2])
    assert sheet.width < 5000


def test_images_of_names_that_differ_in_their_endings_are_files_of_their_own(artifact: Path, tmp_path: Path) -> None:
    table = tmp_path / "latents.csv"
    names = ["a.png.x", "a.jpg", "a.png", "a.bmp"]
    lines = [f"{name},{number},0,0" for number, name in enumerate(names)]
    table.write_text("\n".join(["name,z0,z1,z2", *lines]), encoding="utf-8")
    run("decode", artifact, table, "--out", tmp_path / "decoded")
    assert len(list((tmp_path / "decoded").glob("*.png"))) == len(names)
