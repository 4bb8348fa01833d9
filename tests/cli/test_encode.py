"""The commands that write and read latents: encode, decode and table."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command import read_files, run
from PIL import Image
from pyarrow import parquet

import convae
from convae.data import DataConfig, open_split
from convae.data.splits.split import SplitName
from convae.latents import read_latents


def test_encoding_then_decoding_keeps_names_and_nesting(artifact: Path, photos: Path, tmp_path: Path) -> None:
    run("encode", artifact, "--data", photos, "--out", tmp_path / "latents")
    encoding, _ = read_latents(tmp_path / "latents")
    assert sorted(encoding.names) == sorted(str(path.relative_to(photos)) for path in photos.rglob("*.png"))
    run("decode", artifact, tmp_path / "latents", "--out", tmp_path / "images")
    assert set(read_files(tmp_path / "images")) == set(encoding.names)
    model = convae.load(artifact)
    with torch.no_grad():
        wanted = model.decode(encoding.mean).mean
    for name, image in zip(encoding.names, wanted, strict=True):
        found = np.asarray(Image.open(tmp_path / "images" / name)) / 255
        assert np.abs(found - image[0].numpy()).max() <= 0.5 / 255 + 1e-6
    run("decode", artifact, tmp_path / "latents", "--out", tmp_path / "images", code=2)


def test_encoding_goes_on_where_it_stopped(artifact: Path, photos: Path, tmp_path: Path) -> None:
    run("encode", artifact, "--data", photos, "--out", tmp_path, "--format", "npz")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("latents-*")}
    run("encode", artifact, "--data", photos, "--out", tmp_path, "--format", "npz")
    assert {path: path.stat().st_mtime_ns for path in before} == before
    run("encode", artifact, "--data", "digits", "--out", tmp_path, "--format", "npz", code=2)


def test_parts_are_written_one_by_one_or_by_rank(
    artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("convae.latents.folders.SHARD", 700)  # 1,797 digits: three files
    run("encode", artifact, "--shard", "2/2", "--out", tmp_path)
    assert [path.name for path in tmp_path.glob("*.safetensors")] == ["latents-00002-of-00003.safetensors"]
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    run("encode", artifact, "--out", tmp_path)
    assert len(read_latents(tmp_path)[0]) == 1797


def test_one_table_holds_what_pandas_and_r_need(artifact: Path, photos: Path, tmp_path: Path) -> None:
    run("table", artifact, "--out", tmp_path / "t.csv", "--clusters", 3, "--samples", 2, "--logvar")
    run("table", artifact, "--out", tmp_path / "t.parquet", "--clusters", 3, "--samples", 2, "--logvar")
    run("clusters", artifact, "--split", "all", "--count", 3, "--out", tmp_path)
    run("anomalies", artifact, "--split", "all", "--samples", 2, "--out", tmp_path)
    values = [f"{what}{number}" for what in ("z", "logvar") for number in range(3)]
    with (tmp_path / "t.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["name", "split", "class", "label", "cluster", "negative_elbo_nats", *values]
    assert all(name.isidentifier() for name in rows[0])
    assert len(rows) == 1797
    parts: tuple[SplitName, ...] = ("train", "validation", "test")
    counts = {part: sum(row["split"] == part for row in rows) for part in parts}
    assert counts == {part: len(open_split(DataConfig(source="digits"), part)) for part in counts}
    flat = parquet.read_table(tmp_path / "t.parquet").to_pylist()
    for row, other in zip(rows, flat, strict=True):
        assert (row["name"], row["split"], row["class"]) == (other["name"], other["split"], other["class"])
        assert (int(row["label"]), int(row["cluster"])) == (other["label"], other["cluster"])
        assert float(row["negative_elbo_nats"]) == pytest.approx(other["negative_elbo_nats"])
        assert all(np.float32(row[value]) == np.float32(other[value]) for value in values)
    beside = json.loads((tmp_path / "clusters.json").read_text())["cluster_of"]
    assert {row["name"]: int(row["cluster"]) for row in rows} == beside
    with (tmp_path / "anomalies.csv").open(newline="") as file:
        scores = {row["name"]: row["negative_elbo_nats"] for row in csv.DictReader(file)}
    assert {row["name"]: row["negative_elbo_nats"] for row in rows} == scores
    run("table", artifact, "--data", photos, "--out", tmp_path / "u.csv", "--score", "none", "--split", "all")
    with (tmp_path / "u.csv").open(newline="") as file:
        assert {row["class"] for row in csv.DictReader(file)} == {"cats", "dogs"}


def test_latents_of_another_model_are_decoded_only_by_force(
    artifact: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = convae.load(artifact)
    with torch.no_grad():
        next(model.parameters()).add_(1)
    convae.save(model, tmp_path / "other")
    run("encode", tmp_path / "other", "--data", photos, "--split", "all", "--out", tmp_path / "latents")
    (file,) = (tmp_path / "latents").glob("latents-*")
    for given in (tmp_path / "latents", file):
        capsys.readouterr()
        run("decode", artifact, given, "--out", tmp_path / "images", code=2)
        assert "another model" in capsys.readouterr().err
        assert not (tmp_path / "images").exists()
    run("decode", artifact, tmp_path / "latents", "--out", tmp_path / "images", "--force")
    assert "another model" in capsys.readouterr().err
    assert len(read_files(tmp_path / "images")) == 6


def test_tables_and_arrays_of_latents_are_decoded(artifact: Path, photos: Path, tmp_path: Path) -> None:
    given = ["--data", photos, "--split", "all"]
    run("encode", artifact, *given, "--format", "csv", "--out", tmp_path / "latents")
    run("decode", artifact, tmp_path / "latents", "--out", tmp_path / "wanted")
    wanted = read_files(tmp_path / "wanted")
    run("table", artifact, *given, "--score", "none", "--out", tmp_path / "t.csv")
    run("decode", artifact, tmp_path / "t.csv", "--out", tmp_path / "table")
    assert read_files(tmp_path / "table") == wanted
    encoding, _ = read_latents(tmp_path / "latents")
    np.save(tmp_path / "z.npy", encoding.mean.double().numpy())
    np.savez(tmp_path / "z.npz", mean=encoding.mean.numpy())
    for name in ("z.npy", "z.npz"):
        run("decode", artifact, tmp_path / name, "--out", tmp_path / name[-3:])
        found = read_files(tmp_path / name[-3:])
        assert [found[key] for key in sorted(found)] == [wanted[key] for key in encoding.names]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_latents_that_are_not_finite_are_named_and_nothing_is_written(
    value: float, artifact: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("encode", artifact, "--data", photos, "--split", "all", "--format", "npz", "--out", tmp_path / "latents")
    (file,) = (tmp_path / "latents").glob("latents-*")
    with np.load(file) as arrays:
        kept = dict(arrays)
    kept["mean"][3, 1] = value
    np.savez(file, **kept)
    run("decode", artifact, tmp_path / "latents", "--out", tmp_path / "images", code=2)
    assert str(kept["names"][3]) in capsys.readouterr().err
    assert not (tmp_path / "images").exists()
    model = convae.load(artifact)
    with torch.no_grad():
        model.get_parameter("bottleneck.weight").fill_(3e38)  # its sums overflow
    convae.save(model, tmp_path / "broken")
    for command in ("encode", "scatter", "clusters", "traverse", "anomalies"):
        run(command, tmp_path / "broken", "--out", tmp_path / command, code=2)
        stderr = capsys.readouterr().err
        assert "0001" in stderr or "0000" in stderr or "not finite" in stderr or "NaN" in stderr
        assert "Traceback" not in stderr


def test_whole_numbers_are_no_latents(artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "a.npy", np.ones((3, 2), int))
    run("decode", artifact, tmp_path / "a.npy", "--out", tmp_path / "no", code=2)
    stderr = capsys.readouterr().err
    assert "no codebook" in stderr
    assert "floats" in stderr


def test_latents_whose_names_lead_out_of_the_folder_are_refused(
    artifact: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("encode", artifact, "--data", photos, "--out", tmp_path / "latents", "--format", "npz")
    (file,) = (tmp_path / "latents").glob("latents-*")
    with np.load(file) as arrays:
        kept = dict(arrays)
    kept["names"][0] = "../../evil.png"
    np.savez(file, **kept)
    run("decode", artifact, tmp_path / "latents", "--out", tmp_path / "deep" / "images", code=2)
    assert "outside of the folder" in capsys.readouterr().err
    assert not list(tmp_path.rglob("evil.png"))
