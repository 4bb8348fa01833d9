"""`--refine` of `convae evaluate`, `encode` and `reconstruct`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from command import run
from PIL import Image, ImageChops

import convae
from convae.latents import read_manifest


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that ends with exit code 2, and gives its message."""

    def call(*arguments: object) -> str:
        capsys.readouterr()
        run(*arguments, code=2)
        return capsys.readouterr().err

    return call


def test_metrics_rise_and_the_steps_are_recorded(
    artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {}
    for steps in (0, 30):
        file = tmp_path / f"{steps}.json"
        run("evaluate", artifact, "--refine", steps, "--metrics", "elbo,amortization-gap", "--json", file)
        found[steps] = json.loads(file.read_text())
        assert ("(test), refined by 30 steps" in capsys.readouterr().out) == (steps == 30)
    gain = found[30]["elbo"]["value"] - found[0]["elbo"]["value"]
    low, high = found[0]["amortization-gap"]["interval"]
    assert 0 < low - 1 < gain < high + 1
    assert found[30]["protocol"]["refinement"]["steps"] == 30
    page = tmp_path / "page.html"
    run("evaluate", artifact, "--refine", 30, "--metrics", "elbo", "--html", page)
    assert "tiny on 202 digits images (test), refined by 30 steps" in page.read_text()


def test_folders_of_latents_and_pictures_are_of_refined_posteriors(
    artifact: Path, tmp_path: Path, fails: Callable[..., str]
) -> None:
    run("encode", artifact, "--split", "test", "--refine", 5, "--out", tmp_path / "latents")
    assert read_manifest(tmp_path / "latents")["refinement"]["steps"] == 5
    message = fails("encode", artifact, "--split", "test", "--out", tmp_path / "latents")
    assert "another number of refinement steps" in message
    run("encode", artifact, "--split", "test", "--out", tmp_path / "latents", "--force")
    assert "refinement" not in read_manifest(tmp_path / "latents")
    for steps in (0, 50):
        run("reconstruct", artifact, "--refine", steps, "--out", tmp_path / str(steps))
        run("reconstruct", artifact, "0", "1", "--refine", steps, "--out", tmp_path / f"named-{steps}")
    for name in ("", "named-"):
        plain, refined = (Image.open(tmp_path / f"{name}{steps}" / "reconstructions.png") for steps in (0, 50))
        assert ImageChops.difference(plain.convert("RGB"), refined.convert("RGB")).getbbox() is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--refine", "2", "--engine", "onnx"], "--refine needs torch"),
        (["--refine", "2", "--slices", "4"], "--refine computes gradients of whole images"),
        (["--refine", "-1"], "greater than or equal to 0"),
    ],
)
def test_options_that_exclude_it_are_refused(
    artifact: Path, tmp_path: Path, options: list[str], message: str, fails: Callable[..., str]
) -> None:
    for command in ("encode", "reconstruct"):
        assert message in fails(command, artifact, *options, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_models_of_codes_are_refused(tmp_path: Path, fails: Callable[..., str]) -> None:
    description = {
        "input": [1, 8, 8],
        "encoder": [{"conv": {"channels": 4, "stride": 2}}],
        "bottleneck": {"fsq": {"levels": [4, 4]}},
        "decoder": [{"conv-transpose": {"channels": 1, "stride": 2}}],
    }
    convae.save(convae.build(description), tmp_path / "codes")
    for command in (["evaluate"], ["encode", "--out", tmp_path / "out"], ["reconstruct", "--out", tmp_path / "out"]):
        name, *rest = command
        message = fails(name, tmp_path / "codes", "--data", "digits", "--refine", 2, *rest)
        assert "has no posterior to refine" in message
    message = fails("evaluate", tmp_path / "codes", "--data", "digits", "--metrics", "amortization-gap")
    assert "it needs a single latent with a density" in message
