"""`convae prior`, and sampling from what it leaves."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from command import run

import convae
from convae.model.provenance import Provenance


def test_a_fitted_prior_is_sampled_by_default_and_by_label(
    artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("prior", artifact, "class-gaussians", "--out", tmp_path / "prior", "--seed", 1)
    shown = capsys.readouterr()
    assert str(tmp_path / "prior") in shown.out
    assert "10 classes" in shown.err
    run("sample", tmp_path / "prior", "--label", 7, "--count", 3, "--out", tmp_path / "seven")
    with (tmp_path / "seven" / "samples" / "manifest.csv").open() as file:
        assert [row["label"] for row in csv.DictReader(file)] == ["7"] * 3
    run("sample", tmp_path / "prior", "--labeled", "--count", 3, "--out", tmp_path / "all")
    for number in range(3):
        one = (tmp_path / "seven" / "samples" / f"{number}.png").read_bytes()
        assert one == (tmp_path / "all" / "7" / f"{number}.png").read_bytes()
    run("sample", tmp_path / "prior", "--count", 4, "--out", tmp_path / "any")
    assert not (tmp_path / "any" / "samples" / "manifest.csv").exists()


def test_a_model_and_its_run_with_a_prior_decode_the_same_latents(
    artifact: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("prior", artifact, "gmm", "prior.gmm.components=2", "--out", tmp_path / "prior")
    images = []
    for coder, decoder in ((artifact, tmp_path / "prior"), (tmp_path / "prior", artifact)):
        name = f"from-{coder.name}"
        run("encode", coder, "--data", photos, "--split", "all", "--out", tmp_path / name)
        run("decode", decoder, tmp_path / name, "--out", tmp_path / f"{name}-images")
        images.append({path.name: path.read_bytes() for path in (tmp_path / f"{name}-images").rglob("*.png")})
    assert images[0] == images[1]
    assert len(images[0]) == 6
    capsys.readouterr()
    run("show", tmp_path / "prior")
    shown = capsys.readouterr().out
    assert "gmm {components: 2" in shown
    assert f"{sum(one.numel() for one in convae.load(tmp_path / 'prior').parameters()):,}" in shown


def test_a_training_of_a_prior_is_resumed(artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("prior", artifact, "mixture", "prior.mixture.components=3", "--steps", 4, "--out", tmp_path / "prior")
    run("train", "--resume", tmp_path / "prior")
    assert "finished" in capsys.readouterr().err
    assert convae.load(tmp_path / "prior").spec.prior == {"mixture": {"components": 3}}
    run("train", "--resume", tmp_path / "prior", "--steps", 4, code=2)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["RUN"], "gmm"),
        (["RUN", "gmm", "more"], "gmm"),
        (["RUN", "uniform-codes"], "codebook"),
        (["RUN", "gmm", "prior.gmm.component=2"], "components"),
        (["RUN", "mixture", "--steps", "3", "--epochs", "3"], "--steps"),
    ],
)
def test_faults_are_named(
    arguments: list[str], word: str, artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(artifact) if each == "RUN" else each for each in arguments]
    run("prior", *given, "--out", tmp_path / "out", code=2)
    assert word in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_uniform_codes_say_which_command_fits_a_prior(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec: dict[str, Any] = {
        "input": [1, 8, 8],
        "encoder": [{"conv": {"channels": 4, "stride": 4}}],
        "bottleneck": {"fsq": {"levels": [3, 3]}},
        "decoder": [{"conv-transpose": {"channels": 1, "stride": 4}}],
    }
    model = convae.build(spec)
    model.provenance = Provenance(data={"source": "digits"})
    convae.save(model, tmp_path / "model")
    run("sample", tmp_path / "model", "--count", 2, "--out", tmp_path / "out")
    assert f"convae prior {tmp_path / 'model'} transformer" in capsys.readouterr().err.replace("\n", " ")
    run("prior", tmp_path / "model", "gmm", code=2)
    assert "transformer" in capsys.readouterr().err


def test_the_end_of_a_training_says_which_command_fits_a_prior(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "data: digits\n"
        "model:\n"
        "  input: [1, 8, 8]\n"
        "  encoder: [{conv: {channels: 4, stride: 4}}, flatten]\n"
        "  bottleneck: {deterministic: {latent: 3}}\n"
        "  decoder: [{linear: {features: 64}}, {unflatten: {to: [1, 8, 8]}}]\n"
    )
    run("train", recipe, "--steps", 2, "training.pictures_every=0", "--out", tmp_path / "run")
    assert f"convae prior {tmp_path / 'run'} gmm" in capsys.readouterr().err.replace("\n", " ")
    run("sample", tmp_path / "run", "--label", 3, "--count", 2, "--confidence", 0, "--out", tmp_path / "of-a-class")
    assert "convae prior" not in capsys.readouterr().err  # drawn from a Gaussian of labeled images
    run("prior", tmp_path / "run", "gmm", "prior.gmm.components=2", "--out", tmp_path / "prior")
    capsys.readouterr()
    run("sample", tmp_path / "prior", "--count", 2, "--out", tmp_path / "samples")
    assert "convae prior" not in capsys.readouterr().err
