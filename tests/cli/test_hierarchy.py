"""Commands on a model with several latents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import run
from PIL import Image

import convae
from convae.core.random import numpy_generator

LADDER = {"preset": "ladder", "input": [1, 16, 16], "latent": 3, "size": "tiny"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ladder")
    images = (numpy_generator(0, "images").random((80, 16, 16)) < 0.3).astype(np.uint8) * 255
    np.save(folder / "images.npy", images)
    convae.train(
        {
            "data": {"source": str(folder / "images.npy"), "validation": 0.2},
            "model": LADDER,
            "objective": {"reconstruction": 1, "kl": {"balance": True}},
            "training": {"steps": 4, "batch_size": 16, "device": "cpu", "precision": "float32"},
        },
        out=folder / "run",
        quiet=True,
    )
    return folder


def test_the_log_has_the_kl_divergence_of_each_latent(trained: Path) -> None:
    rows = [json.loads(line) for line in (trained / "run" / "metrics.jsonl").read_text().splitlines()]
    (row,) = [each for each in rows if each["split"] == "validation"][-1:]
    assert set(row["kl_per_latent"]) == {"latent", "latent 1", "latent 2"}
    assert sum(row["kl_per_latent"].values()) > 0


@pytest.mark.parametrize(
    ("words", "files"),
    [
        (["sample", "--count", 4, "--temperature", "1,0.5,0"], {"samples", "samples.png"}),
        (["reconstruct", "--count", 4], {"reconstructions.png"}),
        (["reconstruct", "--count", 4, "--levels"], {"levels.png"}),
        (["traverse", "--rows", 3], {"traversal.png"}),
        (["scatter"], {"scatter.png"}),
        (["interpolate", 0, 1], {"interpolation.png"}),
    ],
)
def test_every_tool_takes_a_hierarchy(trained: Path, tmp_path: Path, words: list[Any], files: set[str]) -> None:
    run(words[0], trained / "run", *words[1:], "--out", tmp_path)
    assert files <= {path.name for path in tmp_path.iterdir()}


def test_evaluation_gives_bounds_and_leaves_out_what_needs_one_latent(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    run("evaluate", trained / "run", "nll.samples=16", "--metrics", "default,nll", "--split", "all", "--json", out)
    report = json.loads(out.read_text())
    assert -report["elbo"]["value"] > report["nll"]["value"]
    assert "mutual-information" not in report
    assert len(report["kl-per-unit"]["value"]) == 3 + 4 * 8 * 8 + 4 * 4 * 4
    assert len(report["kl-per-latent"]["value"]) == 3
    assert sum(report["kl-per-latent"]["value"]) == pytest.approx(report["kl"]["value"], rel=1e-5)


def test_encoded_latents_are_decoded_again(trained: Path, tmp_path: Path) -> None:
    run("encode", trained / "run", "--split", "all", "--out", tmp_path / "latents")
    run("decode", trained / "run", tmp_path / "latents", "--out", tmp_path / "decoded")
    assert len(list((tmp_path / "decoded").rglob("*.png"))) >= 80


def test_levels_show_one_more_row_for_each_latent(trained: Path, tmp_path: Path) -> None:
    run("reconstruct", trained / "run", "--count", 2, "--levels", "--out", tmp_path)
    run("reconstruct", trained / "run", "--count", 2, "--out", tmp_path)
    with Image.open(tmp_path / "levels.png") as levels, Image.open(tmp_path / "reconstructions.png") as pairs:
        assert levels.height > pairs.height


def test_wrong_temperatures_and_levels_are_refused(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("sample", trained / "run", "--temperature", "1,1", "--out", tmp_path, code=2)
    said = capsys.readouterr().err
    assert "temperature" in said
    assert "3" in said
    run("sample", trained / "run", "--truncation", 1, "--out", tmp_path, code=2)
    assert "truncation" in capsys.readouterr().err
