"""Slices and tiles of the commands that encode and decode."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from command import run
from PIL import Image

import convae
from convae.core.random import torch_generator
from convae.latents import measure_tiles, read_latents

SPEC: dict[str, Any] = {
    "name": "map",
    "input": [1, 8, 8],
    "encoder": [
        {"conv": {"channels": 4, "stride": 2, "padding": "keras"}},
        {"group-norm": {"groups": 2}},
        {"conv": {"channels": 4}},
    ],
    "bottleneck": {"gaussian": {"latent": 2}},
    "decoder": [{"upsample": {}}, {"conv": {"channels": 4}}, {"group-norm": {"groups": 2}}, {"conv": {"channels": 1}}],
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convae.save(convae.build(SPEC), tmp_path_factory.mktemp("model") / "model")


def test_slices_are_exact_and_tiles_say_by_how_much_they_are_not(
    model: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {}
    for name, options in {"off": ["--slices", "off"], "rows": ["--slices", "3"], "tiles": ["--tiles", "6:2"]}.items():
        run("encode", model, "--data", photos, "--out", tmp_path / name, *options)
        found[name], said = read_latents(tmp_path / name)[0].mean, capsys.readouterr().err
        assert ("approximate" in said) == (name == "tiles")
    torch.testing.assert_close(found["rows"], found["off"], rtol=0, atol=1e-5)
    (mean, most) = re.findall(r"by ([\d.e-]+) on average and ([\d.e-]+) at most", said.replace("\n", " "))[0]
    difference = (found["tiles"] - found["off"]).abs()[0]
    assert float(mean) == pytest.approx(difference.mean().item(), rel=0.06)
    assert float(most) == pytest.approx(difference.max().item(), rel=0.06)

    for name, options in {"off": ["--slices", "off"], "auto": ["--slices", "auto", "--memory", "1KB"]}.items():
        run("decode", model, tmp_path / "off", "--out", tmp_path / "images" / name, *options)
    pictures = {name: sorted((tmp_path / "images" / name).rglob("*.png")) for name in ("off", "auto")}
    assert [path.read_bytes() for path in pictures["off"]] == [path.read_bytes() for path in pictures["auto"]]
    run("reconstruct", model, "0", "--data", photos, "--out", tmp_path / "sheet", "--tiles", "4")
    assert "dB" in capsys.readouterr().err


def test_images_of_other_sizes_than_the_model_s(model: Path, photos: Path, tmp_path: Path) -> None:
    run("encode", model, "--data", photos, "--out", tmp_path / "latents", "--size", "12x16", "--slices", "4")
    assert read_latents(tmp_path / "latents")[0].mean.shape == (6, 2, 6, 8)
    run("decode", model, tmp_path / "latents", "--out", tmp_path / "images", "--size", "12x16")
    for path in (tmp_path / "images").rglob("*.png"):
        with Image.open(path) as image:
            assert image.size == (16, 12)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--size", "9"], "multiples of 2×2"),
        (["--size", "large"], "--size"),
        (["--slices", "0"], "at least 1"),
        (["--slices", "some"], "--slices"),
        (["--tiles", "4:"], "--tiles"),
        (["--tiles", "4", "--slices", "4"], "--tiles"),
        (["--tiles", "5"], "2×2"),
        (["--memory", "much"], "--memory"),
    ],
)
def test_what_cannot_be_is_a_usage_error(
    options: list[str], why: str, model: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("encode", model, "--data", photos, "--out", tmp_path / "latents", *options, code=2)
    assert why in capsys.readouterr().err
    assert not (tmp_path / "latents").exists()


def test_the_difference_of_tiles_is_zero_for_one_tile_and_the_model_keeps_them() -> None:
    built = convae.build(SPEC).eval()
    x = torch.rand(1, 1, 8, 8, generator=torch_generator(0, "x"))
    with torch.no_grad():
        one = measure_tiles(built, lambda: built.encode(x).mean, size=8)
        assert one.largest < 1e-6
        some = measure_tiles(built, lambda: built.encode(x).mean, size=4)
        tiled = built.encode(x).mean
        built.use_tiles(None)
        exact = built.encode(x).mean
    assert 0 < some.mean < some.rms < some.largest
    assert some.largest == pytest.approx((tiled - exact).abs().max().item(), rel=1e-3)
    assert some.std == pytest.approx(exact.std(correction=0).item(), rel=1e-4)
