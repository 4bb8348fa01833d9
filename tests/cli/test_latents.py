"""The commands that draw with a trained model, as a user calls them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from command import read_files, run
from PIL import Image, ImageSequence

import convae
from convae.latents import read_latents

DRAWN = {
    "reconstruct": ["reconstructions.png"],
    "sample": ["samples.png", "samples/00.png", "samples/63.png"],
    "interpolate": ["interpolation.png", "interpolation.webp"],
    "translate": ["translation.png"],
    "traverse": ["traversal.png"],
    "manifold": ["manifold.png"],
    "clusters": ["clusters.png", "centroids.png", "clusters.json"],
    "scatter": ["scatter.png", "scatter.svg"],
    "neighbors": ["neighbors.png"],
    "anomalies": ["anomalies.png", "anomalies.csv"],
}
MORE = {"interpolate": ["0", "5"], "translate": ["0", "1", "--label", "3"], "neighbors": ["0", "4"]}


def save_linear(shape: tuple[int, ...], path: Path) -> None:
    """Saves a linear model of images of a shape."""
    model = convae.build(
        {
            "input": list(shape),
            "encoder": ["flatten"],
            "bottleneck": {"gaussian": {"latent": 2}},
            "decoder": [{"linear": {"features": int(np.prod(shape))}}, {"unflatten": {"to": list(shape)}}],
        }
    )
    convae.save(model, path)


@pytest.mark.parametrize("command", DRAWN)
def test_a_command_writes_what_it_says_the_same_again_and_never_over_it(
    command: str, artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "new" / "first", tmp_path / "second"
    run(command, artifact, *MORE.get(command, []), "--out", first)
    printed = capsys.readouterr().out.splitlines()
    assert str(first / DRAWN[command][0]) in printed
    assert all((first / name).stat().st_size for name in DRAWN[command])
    run(command, artifact, *MORE.get(command, []), "--out", second)
    assert read_files(first) == read_files(second)

    (first / DRAWN[command][0]).write_bytes(b"mine")
    run(command, artifact, *MORE.get(command, []), "--out", first, code=2)
    assert (first / DRAWN[command][0]).read_bytes() == b"mine"
    assert "--force" in capsys.readouterr().err
    run(command, artifact, *MORE.get(command, []), "--out", first, "--force")
    assert read_files(first) == read_files(second)


@pytest.mark.parametrize(
    ("command", "more"),
    [
        ("traverse", []),
        ("manifold", ["--steps", "3"]),
        ("interpolate", ["0", "1", "2", "--steps", "3"]),
        ("anomalies", []),
        ("neighbors", ["0", "--count", "2"]),
        ("clusters", ["--count", "3"]),
        ("reconstruct", ["--every"]),
        ("sample", ["--count", "9"]),
        ("scatter", []),
        ("translate", ["0", "1", "--positive", "DATA", "--negative", "OTHER"]),
        ("ood", ["--ood-data", "DATA"]),
        ("encode", ["--format", "parquet"]),
        ("evaluate", ["--html", "PAGE"]),
    ],
)
@pytest.mark.parametrize("shape", [(3, 6, 10), (2, 16), (5, 4, 6), (1, 3, 4, 5)])
def test_models_of_other_shapes_are_used_alike(
    command: str, more: list[str], shape: tuple[int, ...], photos: Path, tmp_path: Path
) -> None:
    """RGB, signals of two channels, images of five, volumes."""
    np.save(tmp_path / "other.npy", np.random.default_rng(1).random((4, *shape[1:], shape[0]), np.float32))
    if shape[0] != 3:
        photos = tmp_path / "arrays.npy"
        np.save(photos, np.random.default_rng(0).random((6, *shape[1:], shape[0]), np.float32))
    data = photos if shape[0] == 3 else f"{{arrays: {{path: {photos}, channels: last}}}}"
    save_linear(shape, tmp_path / "model")
    given = ["--data", data, "--split", "all"] if command != "sample" else []
    given += ["--out", tmp_path / "out"] if command != "evaluate" else []
    other = f"{{arrays: {{path: {tmp_path / 'other.npy'}, channels: last}}}}"
    words = {"DATA": data, "OTHER": other, "PAGE": tmp_path / "out" / "page.html"}
    run(command, tmp_path / "model", *(words.get(word, word) for word in more), *given)
    assert read_files(tmp_path / "out")


@pytest.mark.parametrize("command", DRAWN)
def test_a_picture_is_opened_only_on_request(
    command: str, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("typer.launch", opened.append)
    run(command, artifact, *MORE.get(command, []), "--out", tmp_path, "--open")
    assert len(opened) == 1
    assert Path(opened[0]).name in DRAWN[command]
    run(command, artifact, *MORE.get(command, []), "--out", tmp_path, "--force")
    assert len(opened) == 1


def test_images_are_chosen_by_file_position_or_name(
    artifact: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--data", photos, "--split", "all"]
    for name, word in (("file", photos / "dogs" / "0.png"), ("key", "dogs/0.png"), ("end", "0.png")):
        run("reconstruct", artifact, word, *given, "--out", tmp_path / name)
    keys = sorted(str(path.relative_to(photos)) for path in photos.rglob("*.png"))
    run("reconstruct", artifact, keys.index("dogs/0.png"), *given, "--out", tmp_path / "position")

    def below(name: str) -> np.ndarray:
        with Image.open(tmp_path / name / "reconstructions.png") as sheet:
            return np.asarray(sheet)[40:-40]

    assert np.array_equal(below("file"), below("end"))
    assert np.array_equal(below("file"), below("key"))
    run("reconstruct", artifact, "dogs/9.png", *given, "--out", tmp_path / "none", code=2)
    assert "did you mean 'dogs/" in capsys.readouterr().err
    run("neighbors", artifact, "2.png", *given, "--out", tmp_path / "key")
    run("reconstruct", artifact, "0", "--every", *given, "--out", tmp_path / "none", code=2)
    assert "--every" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("labeled", [True, False])
def test_a_latent_of_one_value_is_drawn(labeled: bool, photos: Path, tmp_path: Path) -> None:
    model = convae.build(
        {
            "input": [1, 8, 8],
            "encoder": ["flatten"],
            "bottleneck": {"gaussian": {"latent": 1}},
            "decoder": [{"linear": {"features": 64}}, {"unflatten": {"to": [1, 8, 8]}}],
        }
    )
    convae.save(model, tmp_path / "model")
    given = ["--data", photos if labeled else photos / "dogs", "--split", "all"]
    for command in ("scatter", "manifold", "traverse", "clusters"):
        more = ["--count", 2] if command == "clusters" else []
        run(command, tmp_path / "model", *given, *more, "--out", tmp_path / "out")
    assert {"scatter.png", "scatter.svg", "manifold.png", "traversal.png"} <= set(read_files(tmp_path / "out"))
    run("scatter", tmp_path / "model", *given, "--method", "pca", "--out", tmp_path / "no", code=2)


def test_codes_are_interpolated_and_not_traversed(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coded = convae.build(
        {
            "input": [1, 8, 8],
            "encoder": [{"conv": {"channels": 4, "stride": 2}}],
            "bottleneck": {"vq": {"codes": 5, "latent": 3}},
            "decoder": [{"conv-transpose": {"channels": 1, "stride": 2}}],
        }
    )
    convae.save(coded, tmp_path / "model")
    given = ["--data", photos, "--split", "all", "--out", tmp_path / "out"]
    for command, more in (
        ("interpolate", ["0", "1"]),
        ("translate", ["0", "--label", "cats"]),
        ("clusters", ["--count", "2"]),
    ):
        run(command, tmp_path / "model", *more, *given)
    for command in ("traverse", "manifold"):
        run(command, tmp_path / "model", *given, code=2)
        assert "codes" in capsys.readouterr().err
    run("encode", tmp_path / "model", "--data", photos, "--out", tmp_path / "latents")
    run("decode", tmp_path / "model", tmp_path / "latents", "--out", tmp_path / "whole")
    encoding, _ = read_latents(tmp_path / "latents")
    assert encoding.codes is not None
    np.save(tmp_path / "codes.npy", encoding.codes.numpy())
    run("decode", tmp_path / "model", tmp_path / "codes.npy", "--out", tmp_path / "codes")
    found, wanted = read_files(tmp_path / "codes"), read_files(tmp_path / "whole")
    assert [found[key] for key in sorted(found)] == [wanted[key] for key in encoding.names]
    np.save(tmp_path / "wrong.npy", np.where(np.arange(6)[:, None, None] == 2, 5, encoding.codes.numpy()))
    run("decode", tmp_path / "model", tmp_path / "wrong.npy", "--out", tmp_path / "no", code=2)
    told = capsys.readouterr().err
    assert "0 to 4" in told
    assert "'2'" in told
    assert not (tmp_path / "no").exists()


def test_every_reconstruction_goes_under_its_images_name(artifact: Path, photos: Path, tmp_path: Path) -> None:
    run("reconstruct", artifact, "--data", photos, "--split", "all", "--every", "--count", 2, "--out", tmp_path)
    wanted = {str(path.relative_to(photos)) for path in photos.rglob("*.png")}
    assert set(read_files(tmp_path)) == wanted | {"reconstructions.png"}


def test_the_first_samples_do_not_depend_on_the_count(artifact: Path, tmp_path: Path) -> None:
    run("sample", artifact, "--count", 3, "--seed", 4, "--out", tmp_path / "few")
    run("sample", artifact, "--count", 9, "--seed", 4, "--out", tmp_path / "many")
    run("sample", artifact, "--count", 3, "--seed", 5, "--out", tmp_path / "other")
    few, many, other = (read_files(tmp_path / name) for name in ("few", "many", "other"))
    assert all(few[f"samples/{number}.png"] == many[f"samples/{number}.png"] for number in range(3))
    assert few["samples/0.png"] != other["samples/0.png"]


def test_files_and_images_of_the_split_have_as_many_neighbors(artifact: Path, photos: Path, tmp_path: Path) -> None:
    given = ["--data", photos, "--split", "all", "--count", 99]
    run("neighbors", artifact, 0, photos / "dogs" / "0.png", *given, "--out", tmp_path / "both")
    run("neighbors", artifact, photos / "dogs" / "0.png", *given, "--out", tmp_path / "file")
    with (
        Image.open(tmp_path / "both" / "neighbors.png") as both,
        Image.open(tmp_path / "file" / "neighbors.png") as file,
    ):
        assert both.height < 2 * file.height  # two rows of equal length


def test_an_interpolation_between_files_ends_at_their_reconstructions(
    artifact: Path, photos: Path, tmp_path: Path
) -> None:
    a, b = photos / "dogs" / "0.png", photos / "cats" / "indoors" / "1.png"
    run("interpolate", artifact, a, b, "--steps", 5, "--mode", "slerp", "--out", tmp_path)
    with Image.open(tmp_path / "interpolation.webp") as film:
        assert len(list(ImageSequence.Iterator(film))) == 8  # five there, three back


def test_a_direction_comes_from_classes_or_from_two_folders(artifact: Path, photos: Path, tmp_path: Path) -> None:
    run("translate", artifact, 0, "--label", 1, "--against", 7, "--strengths", "0,1", "--out", tmp_path / "classes")
    by_column = ("--attribute", "class", "--label", 1, "--against", 0)
    run("translate", artifact, 0, *by_column, "--strengths", "0,1", "--out", tmp_path / "attribute")
    run("translate", artifact, 0, "--label", 1, "--against", 0, "--strengths", "0,1", "--out", tmp_path / "same")
    with (
        Image.open(tmp_path / "attribute" / "translation.png") as one,
        Image.open(tmp_path / "same" / "translation.png") as other,
    ):
        assert np.array_equal(np.asarray(one)[60:], np.asarray(other)[60:])  # below their titles
    folders = ("--positive", photos / "dogs", "--negative", photos / "cats")
    run("translate", artifact, 0, *folders, "--out", tmp_path / "folders")
    assert read_files(tmp_path / "classes").keys() == read_files(tmp_path / "folders").keys() == {"translation.png"}


def test_clusters_and_anomalies_list_every_image(artifact: Path, tmp_path: Path) -> None:
    run("clusters", artifact, "--count", 4, "--out", tmp_path)
    found = json.loads((tmp_path / "clusters.json").read_text())
    assert sum(cluster["size"] for cluster in found["clusters"]) == len(found["cluster_of"]) == 202
    run("anomalies", artifact, "--out", tmp_path)
    with (tmp_path / "anomalies.csv").open() as file:
        rows = list(csv.DictReader(file))
    scores = [float(row["negative_elbo_nats"]) for row in rows]
    assert len(rows) == 202
    assert scores == sorted(scores, reverse=True)
    assert {row["name"] for row in rows} == set(found["cluster_of"])
    assert found["agreement_with_labels"]["images"] == 202
    with (tmp_path / "clusters.csv").open() as file:
        listed = list(csv.DictReader(file))
    assert {row["name"]: int(row["cluster"]) for row in listed} == found["cluster_of"]
    assert {row["split"] for row in listed} == {"test"}


def test_a_number_of_clusters_is_chosen_by_the_silhouette(
    artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("clusters", artifact, "--count", "auto", "--out", tmp_path)
    assert "silhouette" in capsys.readouterr().out
    found = json.loads((tmp_path / "clusters.json").read_text())
    tried = {int(count): silhouette for count, silhouette in found["silhouettes_tried"].items()}
    assert list(tried) == list(range(2, 21))
    assert len(found["clusters"]) == max(tried, key=lambda count: tried[count])
    assert found["silhouette"] == max(tried.values())


def test_anomalies_ood_and_evaluate_have_one_negative_elbo(artifact: Path, photos: Path, tmp_path: Path) -> None:
    more = ("--seed", 3, "--samples", 2)
    run("evaluate", artifact, "elbo.samples=2", "--metrics", "elbo", "--seed", 3, "--json", tmp_path / "figures.json")
    run("anomalies", artifact, *more, "--out", tmp_path / "known")
    run("anomalies", artifact, "--data", photos, "--split", "all", *more, "--out", tmp_path / "other")
    run("ood", artifact, "--ood-data", photos, "--split", "all", *more, "--out", tmp_path / "ood")
    run("ood", artifact, "--ood-data", "digits", *more, "--out", tmp_path / "same")

    def read(path: Path) -> list[dict[str, str]]:
        with path.open() as file:
            return list(csv.DictReader(file))

    def scores(rows: list[dict[str, str]]) -> dict[str, float]:
        return {row["name"]: float(row["negative_elbo_nats"]) for row in rows}

    known = scores(read(tmp_path / "known" / "anomalies.csv"))
    mean = sum(known.values()) / len(known)
    assert mean == pytest.approx(-json.loads((tmp_path / "figures.json").read_text())["elbo"]["value"], rel=1e-8)
    assert scores([row for row in read(tmp_path / "same" / "ood.csv") if row["set"] == "known"]) == known
    rows = read(tmp_path / "ood" / "ood.csv")
    other = scores([row for row in rows if row["set"] == "ood"])
    assert other == scores(read(tmp_path / "other" / "anomalies.csv"))
    # The AUROC by its definition: a pair of images at a time.
    all_known = scores([row for row in rows if row["set"] == "known"]).values()
    wins = sum((b > a) + 0.5 * (b == a) for a in all_known for b in other.values())
    found = json.loads((tmp_path / "ood" / "ood.json").read_text())
    assert found["auroc"]["value"] == pytest.approx(wins / len(all_known) / len(other))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["interpolate", "MODEL", "0", "300"], "image 300: the split has images 0 to 201"),
        (["interpolate", "MODEL", "0"], "at least two images, got 1"),
        (["interpolate", "MODEL", "0", "nothing.png"], "nothing.png"),
        (["translate", "MODEL", "0"], "--positive and --negative"),
        (["translate", "MODEL", "0", "--label", "cat"], "unknown class 'cat'"),
        (["translate", "MODEL", "0", "--attribute", "Smiling"], "unknown column 'Smiling'"),
        (["translate", "MODEL", "0", "--attribute", "class"], "--attribute: 'class'"),
        (["translate", "MODEL", "0", "--attribute", "class", "--against", "1"], "--positive and --negative"),
        (["traverse", "MODEL", "--label", "1"], "--label: model 'tiny' is not conditional"),
        (
            ["translate", "MODEL", "0", "--label", "3", "--strengths", "much"],
            "--strengths: ",
        ),
        (["manifold", "MODEL", "--axes", "0,9"], "axes from 0 to 2, got (0, 9)"),
        (["manifold", "MODEL", "--axes", "0.5,1"], "--axes: "),
        (["translate", "MODEL", "0", "--label", "3", "--against", "3"], "--label and --against are both 3"),
        (["translate", "MODEL", "0", "--label", "3", "--strengths", "nan"], "--strengths: "),
        (["manifold", "MODEL", "--data", "ONE", "--split", "all"], "2 images"),
        (["scatter", "MODEL", "--data", "ONE", "--split", "all", "--method", "tsne"], "tsne needs 5 images, got 1"),
        (["neighbors", "MODEL", "0", "--data", "ONE", "--split", "all"], "holds no other image"),
        (["clusters", "MODEL", "--count", "500"], "1 to 202 clusters"),
        (["scatter", "MODEL", "--method", "raw"], "pca, tsne or umap"),
        (["sample", "MODEL", "--truncation", "0"], "at least 0.1"),
        (["neighbors", "MODEL", "0", "--data", "missing/folder"], "missing/folder: "),
        (["encode", "MODEL", "--format", "pickle"], "unknown format of latents 'pickle'"),
        (["encode", "MODEL", "--shard", "3/2"], "--shard: expected shard i of n, such as 2/4, got '3/2'"),
        (["encode", "MODEL", "--shard", "half"], "got 'half'"),
        (["decode", "MODEL", "missing"], "missing: no such file"),
        (["traverse", "missing"], "missing: no such folder"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_written(
    artifact: Path, tmp_path: Path, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"MODEL": artifact, "ONE": tmp_path / "one"}
    places["ONE"].mkdir()
    Image.new("L", (8, 8)).save(places["ONE"] / "a.png")
    words = [places.get(word, word) for word in arguments]
    run(*words, "--out", tmp_path / "out", code=2)
    told = capsys.readouterr().err
    assert sentence in told
    assert told.startswith("convae: ")
    assert len(told.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("shape", [(2, 16), (5, 4, 6), (1, 4, 4, 4)])
def test_what_no_png_holds_is_sampled_as_arrays_and_drawn(shape: tuple[int, ...], tmp_path: Path) -> None:
    save_linear(shape, tmp_path / "model")
    run("sample", tmp_path / "model", "--count", 3, "--out", tmp_path / "out")
    assert set(read_files(tmp_path / "out")) == {"samples.png", "samples/0.npy", "samples/1.npy", "samples/2.npy"}
    assert np.load(tmp_path / "out" / "samples" / "1.npy").shape == shape


def test_reconstruct_draws_imputed_images(tmp_path: Path) -> None:
    recipe = {
        "data": {"source": "digits", "missing": 0.4},
        "model": {**MISSING_MODEL},
        "training": {"steps": 3, "batch_size": 32, "pictures_every": 0},
    }
    convae.train(recipe, out=tmp_path / "run", quiet=True)
    run("reconstruct", tmp_path / "run", "--samples", "3", "--every", "--count", "4", "--out", tmp_path / "out")
    assert (tmp_path / "out" / "imputed.png").is_file()
    assert len(list((tmp_path / "out").rglob("*.png"))) == 203


MISSING_MODEL = {
    "input": [1, 8, 8],
    "encoder": ["flatten"],
    "bottleneck": {"gaussian": {"latent": 3}},
    "decoder": [{"linear": {"features": 64}}, {"unflatten": {"to": [1, 8, 8]}}],
}
