"""`convae evaluate` and `convae ood` as a user calls them."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from command import run
from PIL import Image

import convae
from convae.evaluation import Measurement, Report


def test_figures_are_printed_and_written_with_their_protocol(
    artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("evaluate", artifact, "--json", tmp_path / "new" / "figures.json", "--html", tmp_path / "new" / "page.html")
    printed = capsys.readouterr().out
    assert "tiny on 202 digits images (test)" in printed
    for name in ("elbo", "psnr", "ssim", "active-units"):
        assert name in printed
    assert printed.splitlines()[-2:] == [str(tmp_path / "new" / "figures.json"), str(tmp_path / "new" / "page.html")]
    figures = json.loads((tmp_path / "new" / "figures.json").read_text())
    low, high = figures["psnr"]["interval"]
    assert low < figures["psnr"]["value"] < high
    assert figures["protocol"]["data"]["count"] == 202
    assert "</html>" in (tmp_path / "new" / "page.html").read_text()


def test_the_page_shows_images_of_all_classes(artifact: Path, tmp_path: Path) -> None:
    size = convae.load(artifact).input_shape[1:]
    np.save(
        tmp_path / "sorted.npy", np.repeat([60, 200], 100).astype(np.uint8)[:, None, None] * np.ones(size, np.uint8)
    )
    page = tmp_path / "page.html"
    run("evaluate", artifact, "--data", tmp_path / "sorted.npy", "--metrics", "mse", "--html", page)
    picture = re.findall(r"data:image/png;base64,([^\"]+)", page.read_text())[0]
    values = np.array(Image.open(io.BytesIO(base64.b64decode(picture))).convert("L"))
    assert (values == 60).sum() > 5 * np.prod(size)
    assert (values == 200).sum() > 5 * np.prod(size)


def measured(value: float, at_most: float | None = None) -> Measurement:
    return Measurement(value, None, "nats", None, at_most)


@pytest.mark.parametrize(
    ("metrics", "hint"),
    [
        ({"kl": measured(30.0), "aggregate-gap": measured(8.0)}, "8 nats"),
        ({"kl": measured(30.0), "aggregate-gap": measured(2.5)}, None),
        ({"kl": measured(30.0), "mutual-information": measured(5.0, at_most=5.3)}, "24.7 nats"),
        ({"kl": measured(30.0), "mutual-information": measured(29.0)}, None),
        ({"psnr": measured(20.0)}, None),
    ],
)
def test_a_prior_far_from_the_posterior_is_pointed_out(
    metrics: dict[str, Measurement],
    hint: str | None,
    artifact: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    protocol = {"data": {"count": 202, "source": "digits", "split": "test"}, "model": {"name": "tiny"}}
    report = Report(metrics, protocol, {}, {"ms-ssim": "needs images of 161 pixels a side"})
    monkeypatch.setattr("convae.evaluation.evaluate", lambda *_, **__: report)
    run("evaluate", artifact)
    shown = capsys.readouterr()
    assert ("convae prior" in shown.err) == (hint is not None)
    assert (hint or "") in shown.err
    # What could not be measured is in the table, with the reason.
    assert "left out" in shown.out
    assert "161 pixels" in shown.out


def test_named_metrics_with_options_and_an_encoder(artifact: Path, tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    run("evaluate", artifact, "nll.samples=3", "--metrics", "fd, psnr", "--features", artifact, "--json", file)
    figures = json.loads(file.read_text())
    assert set(figures) == {"nll", "psnr", "fd-tiny", "protocol"}
    assert figures["protocol"]["metrics"]["nll"] == {"samples": 3}


def test_the_same_call_gives_the_same_bytes_and_another_seed_others(artifact: Path, tmp_path: Path) -> None:
    for name, seed, size in (("a", 0, 64), ("b", 0, 64), ("c", 1, 64)):
        options = ("--seed", seed, "--batch-size", size, "--metrics", "elbo,mse", "--json", tmp_path / name)
        run("evaluate", artifact, *options)
    first, second, other = ((tmp_path / name).read_bytes() for name in "abc")
    assert first == second != other


def test_nothing_is_overwritten_without_force(
    artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "figures.json"
    file.write_text("mine")
    run("evaluate", artifact, "--metrics", "mse", "--json", file, code=2)
    assert file.read_text() == "mine"
    assert "--force" in capsys.readouterr().err
    run("evaluate", artifact, "--metrics", "mse", "--json", file, "--force")
    assert "mse" in json.loads(file.read_text())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["missing"], "missing: no such folder"),
        (["MODEL", "--metrics", "pnsr"], "unknown metric 'pnsr': did you mean 'psnr'?"),
        (["MODEL", "nll.sampels=4"], "did you mean 'samples'?"),
        (["MODEL", "nll.samples=-1"], "greater than 0, got -1"),
        (["MODEL", "nll"], "'nll': expected an override of the form key.path=value"),
        (["MODEL", "--split", "tset"], "invalid value for '--split'"),
        (["MODEL", "--data", "minst"], "did you mean 'mnist'"),
        (["MODEL", "--device", "tpu"], "device 'tpu'"),
        (["MODEL", "--metrics", "fd"], "--features"),
        (["MODEL", "--metrics", "fd", "--features", "eficientnet-lite0"], "efficientnet-lite0"),
        (["MODEL", "--batch-size", "0"], "'--batch-size'"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    artifact: Path, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run("evaluate", *(artifact if word == "MODEL" else word for word in arguments), code=2)
    told = capsys.readouterr().err
    assert sentence in told
    assert told.startswith("convae: ")
    assert len(told.splitlines()) == 1


def test_foreign_images_are_told_apart(
    artifact: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("ood", artifact, "--ood-data", photos, "--split", "all", "--out", tmp_path, "--score", "reconstruction")
    assert "AUROC" in capsys.readouterr().out
    found = json.loads((tmp_path / "ood.json").read_text())
    assert 0 <= found["auroc"]["interval"][0] <= found["auroc"]["value"] <= found["auroc"]["interval"][1] <= 1
    assert found["protocol"]["data"]["count"] == 1797
    assert found["protocol"]["ood_data"]["count"] == 6
    assert (tmp_path / "ood.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "ood.svg").read_bytes().startswith(b"<?xml")
    run("ood", artifact, "--ood-data", photos, "--split", "all", "--out", tmp_path, code=2)


def test_a_run_finds_its_data_where_it_was_and_an_artifact_does_not_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def idx(array: np.ndarray) -> bytes:
        return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.astype(np.uint8).tobytes()

    drawn = np.random.default_rng(0)
    for part, count in (("train", 12), ("t10k", 5)):
        (tmp_path / "mine" / "mnist").mkdir(parents=True, exist_ok=True)
        file = tmp_path / "mine" / "mnist" / f"{part}-images-idx3-ubyte"
        file.write_bytes(idx(drawn.integers(0, 256, (count, 8, 8))))
        (file.parent / f"{part}-labels-idx1-ubyte").write_bytes(idx(drawn.integers(0, 10, count)))
    recipe = tmp_path / "recipe.yaml"
    model = "{preset: torch-vae, latent: 2, max_filters: 8}"
    recipe.write_text(f"{{data: mnist, model: {model}, training: {{steps: 1, batch_size: 4, pictures_every: 0}}}}")
    monkeypatch.setenv("CONVAE_OFFLINE", "1")
    run("train", recipe, "--data-dir", tmp_path / "mine", "--out", tmp_path / "run")
    run("evaluate", tmp_path / "run", "--metrics", "mse")
    assert "on 5 mnist images (test)" in capsys.readouterr().out
    shutil.copytree(tmp_path / "run" / "model", tmp_path / "given")
    run("evaluate", tmp_path / "given", "--metrics", "mse", code=2)
    assert "mnist: not found" in capsys.readouterr().err
    assert str(tmp_path) not in (tmp_path / "run" / "model" / "config.json").read_text()


def test_a_classifier_without_labeled_images_is_told_so(
    tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = convae.build(
        {
            "preset": "torch-vae",
            "input": [1, 8, 8],
            "latent": 2,
            "max_filters": 4,
            "classifier": [{"linear": {"features": 2}}],
        }
    )
    place = convae.save(model, tmp_path / "model")
    for folder, told in ((photos / "dogs", True), (photos, False)):
        run("evaluate", place, "--data", folder, "--split", "all", "--metrics", "kl")
        assert ("none of the 3 images" in capsys.readouterr().err) == told
