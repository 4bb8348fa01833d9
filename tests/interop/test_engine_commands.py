"""`--engine` of encode, decode, sample and reconstruct."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from command import run
from exported_models import built
from PIL import Image

import convae
from convae.interop import engines
from convae.latents import read_latents

pytestmark = pytest.mark.usefixtures("onnx_signatures_read_once")


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convae.save(built(), tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six gray images."""
    path = tmp_path_factory.mktemp("photos") / "six.npz"
    np.savez(path, images=np.random.default_rng(0).integers(0, 256, (6, 8, 8), np.uint8))
    return path


@pytest.fixture(autouse=True)
def engine_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs that all tests of this file share."""
    monkeypatch.setenv("CONVAE_CACHE", str(tmp_path_factory.getbasetemp() / "engine-cache"))


def test_commands_give_torchs_results_with_another_engine(
    artifact: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for engine in ("torch", "onnx"):
        out = tmp_path / engine
        run("encode", artifact, "--data", photos, "--engine", engine, "--out", out / "latents")
        run("decode", artifact, out / "latents", "--engine", engine, "--out", out / "decoded")
        run("sample", artifact, "--count", 3, "--engine", engine, "--out", out / "sampled")
        run("reconstruct", artifact, "--data", photos, "--every", "--engine", engine, "--out", out / "again")
        printed = capsys.readouterr().err
        lines = [line for line in printed.splitlines() if line.startswith("engine ")]
        assert len(lines) == (4 if engine == "onnx" else 0)
        assert all("differs from torch by at most" in line for line in lines)
    first, second = (read_latents(tmp_path / engine / "latents")[0] for engine in ("torch", "onnx"))
    assert np.allclose(first.mean, second.mean, atol=1e-4)
    assert np.allclose(first.logvar, second.logvar, atol=1e-4)
    written = sorted(path.relative_to(tmp_path / "torch") for path in (tmp_path / "torch").rglob("*/*.png"))
    assert len(written) > 6 + 3 + 6
    for path in written:
        pictures = [np.asarray(Image.open(tmp_path / engine / path), np.int64) for engine in ("torch", "onnx")]
        assert abs(pictures[0] - pictures[1]).max() <= 1


def test_auto_takes_torch_for_few_images(
    artifact: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "BUDGET", 0.0)
    run("encode", artifact, "--data", photos, "--engine", "auto", "--out", tmp_path / "latents")
    assert "engine torch: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["encode", "--engine", "tensorrt"], "--engine"),
        (["encode", "--engine", "onnx", "--tiles", "8"], "--tiles"),
        (["reconstruct", "--engine", "onnx", "--levels"], "--levels"),
    ],
)
def test_an_engine_that_cannot_be_used_is_refused(
    arguments: list[str],
    part: str,
    artifact: Path,
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command, *options = arguments
    run(command, artifact, *options, "--data", photos, "--out", tmp_path / "out", code=2)
    assert part in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_missing_runtime_is_named(
    artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    run("sample", artifact, "--engine", "openvino", "--out", tmp_path / "out", code=2)
    error = capsys.readouterr().err
    assert "convae[openvino]" in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()
