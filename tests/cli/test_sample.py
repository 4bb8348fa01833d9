"""`convae sample` with labels."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from command import run

import convae
from convae.core.file_sets import LIST
from convae.data import DataConfig, open_split
from convae.model.provenance import Provenance

TINY: dict[str, Any] = {
    "input": [1, 8, 8],
    "encoder": [{"conv": {"channels": 4, "stride": 2}}, "relu", "flatten"],
    "bottleneck": {"gaussian": {"latent": 3}},
    "decoder": [{"linear": {"features": 64}}, {"unflatten": {"to": [1, 8, 8]}}],
}


def saved(folder: Path, **more: Any) -> Path:
    model = convae.build({"name": "tiny", **TINY, **more})
    model.provenance = Provenance(classes=["cat", "dog", "a/b"])
    return convae.save(model, folder / "model")


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    "more",
    [{"condition": {"classes": 3}}, {"classifier": [{"linear": {"features": 3}}]}],
    ids=["conditional", "classifier"],
)
def test_a_labeled_data_set_is_read_again_by_folder_and_by_list(more: dict[str, Any], tmp_path: Path) -> None:
    model, out = saved(tmp_path, **more), tmp_path / "set"
    least = ["--confidence", 0] if "classifier" in more else []
    run("sample", model, "--labeled", "--count", 4, *least, "--out", out)
    assert {path.name for path in tmp_path.iterdir()} == {"model", "set", "set-sheet.png"}
    for source in (out, out / "manifest.csv"):
        split = open_split(DataConfig(source=str(source), validation=0, test=0), "train")
        assert split.labels is not None
        assert [int((split.labels == number).sum()) for number in range(3)] == [4, 4, 4]
    assert rows(out)[-1]["path"] == "a-b/3.png"
    assert rows(out)[-1]["label"] == "a/b"
    assert ("confidence" in rows(out)[0]) == ("classifier" in more)
    run("sample", model, "--label", "dog", "--count", 2, *least, "--out", tmp_path / "one")
    assert {row["label"] for row in rows(tmp_path / "one" / "samples")} == {"dog"}
    assert (tmp_path / "one" / "samples" / "1.png").read_bytes() == (out / "dog" / "1.png").read_bytes()
    assert (tmp_path / "one" / "samples.png").is_file()


def test_classes_with_similar_or_impossible_names_have_folders_of_their_own(tmp_path: Path) -> None:
    model = convae.build({"name": "tiny", **TINY, "condition": {"classes": 6}})
    names = ["a/b", "a-b", "..", ".hidden", "", "c" * 300]
    model.provenance = Provenance(classes=names)
    out = tmp_path / "set"
    run("sample", convae.save(model, tmp_path / "model"), "--labeled", "--count", 2, "--out", out)
    assert [row["label"] for row in rows(out)] == [name for name in names for _ in range(2)]
    paths = [row["path"] for row in rows(out)]
    assert len(set(paths)) == 12
    assert {str(path.relative_to(out)) for path in out.rglob("*.png")} == set(paths)
    split = open_split(DataConfig(source=str(out), validation=0, test=0), "train")
    assert split.labels is not None
    assert [int((split.labels == number).sum()) for number in range(6)] == [2] * 6


def test_every_sample_of_a_model_that_knows_classes_gets_a_label(tmp_path: Path) -> None:
    model = saved(tmp_path, classifier=[{"linear": {"features": 3}}])
    run("sample", model, "--count", 12, "--out", tmp_path / "out")
    found = rows(tmp_path / "out" / "samples")
    assert [row["path"] for row in found] == [f"{number:02}.png" for number in range(12)]
    assert {row["label"] for row in found} <= {"cat", "dog", "a/b"}
    assert all(0 <= float(row["confidence"]) <= 1 for row in found)


def test_a_model_without_classes_draws_from_the_latents_of_labeled_images(artifact: Path, tmp_path: Path) -> None:
    run("sample", artifact, "--labeled", "--count", 2, "--confidence", 0, "--out", tmp_path / "all")
    assert {path.name for path in (tmp_path / "all").iterdir()} - {LIST} == {"manifest.csv", *map(str, range(10))}
    run("sample", artifact, "--label", 3, "--count", 2, "--confidence", 0, "--out", tmp_path / "one")
    assert (tmp_path / "one" / "samples" / "1.png").read_bytes() == (tmp_path / "all" / "3" / "1.png").read_bytes()


@pytest.mark.parametrize(
    ("more", "arguments", "sentence"),
    [
        ({"classifier": [{"linear": {"features": 3}}]}, ["--label", "cow"], "unknown class 'cow'"),
        ({"classifier": [{"linear": {"features": 3}}]}, ["--label", "cat", "--labeled"], "give one of them"),
        ({"classifier": [{"linear": {"features": 3}}]}, ["--label", "cat", "--confidence", "1"], "class 0 (cat)"),
        ({"condition": {"classes": 3}}, ["--label", "cat", "--confidence", "0.5"], "leave out --confidence"),
        ({}, ["--confidence", "0.5"], "--confidence and --data need --label"),
        ({}, ["--label", "cat"], "--data"),
    ],
)
def test_what_cannot_be_drawn_is_told_in_one_sentence(
    more: dict[str, Any],
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("convae.latents.labeled.PATIENCE", 4)
    run("sample", saved(tmp_path, **more), *arguments, "--out", tmp_path / "out", code=2)
    told = capsys.readouterr().err
    assert sentence in told
    assert len(told.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
