"""`convae distill`."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import run

import convae


def test_a_distilled_model_is_an_ordinary_one(
    artifact: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    run("distill", artifact, "--data", photos, "--decoder", "{small: {width: 4}}", "--steps", 2, "--out", out)
    shown = capsys.readouterr()
    assert str(out) in shown.out
    assert "times fewer" in shown.err
    assert convae.load(out).latent_shape == convae.load(artifact).latent_shape
    run("reconstruct", out, 0, "--data", photos, "--split", "all", "--out", tmp_path / "pictures")
    run("distill", artifact, "--data", photos, "--decoder", "[flatten]", "--out", tmp_path / "no", code=2)
    assert "model.decoder" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["one", "two"]])
def test_one_model_is_needed(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    run("distill", *words, code=2)
    assert "convae distill" in capsys.readouterr().err
