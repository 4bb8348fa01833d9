"""Encoding a split: in memory, to files, and on after a kill."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from pyarrow import parquet

import convae
from convae.core.errors import ConfigError, DataError, OutputError, ShapeError
from convae.data import DataConfig, Split, open_split
from convae.data.splits.split import SplitName
from convae.latents import (
    Encoding,
    FileShard,
    decode,
    encode,
    encode_to,
    formats,
    iterate_decodable,
    kl_per_dimension,
    read_latents,
    tables,
)
from convae.latents import folders as module
from convae.model.vae import VAE


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHARD", 60)  # 202 images: files of 60, 60, 60 and 22


def test_the_posteriors_are_the_models_own_whatever_the_batches(model: VAE, digits: Split) -> None:
    images = digits.images(list(range(202))).float() / 255
    with torch.no_grad():
        wanted = model.eval().encode(images)
    for batch_size in (7, 256):
        found = encode(model, digits, batch_size=batch_size)
        torch.testing.assert_close(found.mean, wanted.mean, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(found.logvar, wanted.logvar, rtol=1e-5, atol=1e-6)
    assert found.names == digits.keys
    assert digits.labels is not None
    assert found.labels is not None
    assert found.labels.tolist() == digits.labels.tolist()


def test_some_images_in_the_order_asked_for(model: VAE, digits: Split) -> None:
    whole, some = encode(model, digits), encode(model, digits, indices=np.array([5, 0, 99]))
    torch.testing.assert_close(some.mean, whole.mean[[5, 0, 99]])
    assert some.names == [digits.key(5), digits.key(0), digits.key(99)]


FORMATS = ["safetensors", "npz", "parquet", "csv"]


@pytest.mark.parametrize("format", FORMATS)
def test_files_hold_what_memory_holds(model: VAE, digits: Split, tmp_path: Path, format: str) -> None:
    path = encode_to(model, digits, tmp_path / "out", format=format)
    found, manifest = read_latents(tmp_path / "out")
    wanted = encode(model, digits)
    torch.testing.assert_close(found.mean, wanted.mean)
    torch.testing.assert_close(found.logvar, wanted.logvar)
    assert found.names == wanted.names
    assert found.labels is not None
    assert wanted.labels is not None
    assert torch.equal(found.labels, wanted.labels)
    assert path.name == "latents.json"
    assert found.splits == ["test"] * 202
    assert found.classes == manifest["classes"] == (None if digits.classes is None else list(digits.classes))
    assert len(manifest["files"]) == 4
    assert manifest["data"]["content_hash"] == digits.content_hash


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("labeled", [True, False])
def test_maps_codes_and_names_of_any_kind_are_kept(tmp_path: Path, format: str, labeled: bool) -> None:
    given = Encoding(
        torch.randn(2, 3, 4, 5),
        torch.randn(2, 3, 4, 5),
        torch.tensor([7, -1]) if labeled else None,
        ["räum/ü 1.png", "b\n.png"],
        torch.arange(40).view(2, 4, 5),
        ["x", "y"],
        ["train", "test"],
    )
    formats.find_writer(format)(tmp_path / f"latents.{format}", given)
    found = formats.read_encoding(tmp_path / f"latents.{format}", (3, 4, 5))
    for name in formats.TENSORS:
        wanted = getattr(given, name)
        assert (getattr(found, name) is None) if wanted is None else torch.equal(getattr(found, name), wanted)
    assert found.names == given.names
    assert found.splits == given.splits


def test_parquet_is_a_table_that_others_read(model: VAE, digits: Split, tmp_path: Path) -> None:
    encode_to(model, digits, tmp_path, format="parquet")
    table = parquet.read_table(sorted(tmp_path.glob("*.parquet"))[0])
    values = [f"{what}{number}" for what in ("z", "logvar") for number in range(3)]
    assert table.column_names == ["name", "split", "class", "label", *values]
    assert table["name"].to_pylist() == digits.keys[:60]
    found = torch.stack([torch.tensor(table[f"z{number}"].to_pylist()) for number in range(3)], dim=1)
    torch.testing.assert_close(found, encode(model, digits).mean[:60])


def test_a_missing_package_is_named(model: VAE, digits: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"pip install 'convae\[parquet\]'"):
        encode_to(model, digits, tmp_path / "out", format="parquet")
    assert not (tmp_path / "out").exists()


def test_codes_are_kept_where_the_bottleneck_has_them(digits: Split, tmp_path: Path) -> None:
    coded = convae.build(
        {
            "input": [1, 8, 8],
            "encoder": [{"conv": {"channels": 4, "stride": 2}}],
            "bottleneck": {"vq": {"codes": 5, "latent": 3}},
            "decoder": [{"conv-transpose": {"channels": 1, "stride": 2}}],
        }
    ).eval()
    encode_to(coded, digits, tmp_path)
    found, _ = read_latents(tmp_path)
    assert found.codes is not None
    assert found.codes.shape == (202, 4, 4)
    assert len(found.codes.unique()) > 1
    book = coded.state_dict()["bottleneck.quantizer.codebook"]
    torch.testing.assert_close(found.mean, book[found.codes].movedim(-1, 1))


LEVELS = {
    "residual": {
        "input": [1, 8, 8],
        "encoder": [{"conv": {"channels": 4, "stride": 2}}],
        "bottleneck": {"residual": {"levels": 2, "latent": 3, "quantizer": {"vq": {"codes": 5}}}},
        "decoder": [{"conv-transpose": {"channels": 1, "stride": 2}}],
    },
    "hierarchy": {"preset": "vq-vae-2", "input": [1, 8, 8], "channels": 8, "latent": 3, "codes": 8},
}


@pytest.mark.parametrize("format", ["safetensors", "csv"])
@pytest.mark.parametrize("name", LEVELS)
def test_codes_of_several_levels_are_written_and_give_the_latents_alone(
    name: str, format: str, digits: Split, tmp_path: Path
) -> None:
    coded = convae.build(LEVELS[name]).eval()
    encode_to(coded, digits, tmp_path / "out", format=format)
    found, _ = read_latents(tmp_path / "out")
    assert found.codes is not None
    shapes = {"residual": (2, 4, 4), "hierarchy": (1 + 4,)}
    assert found.codes.shape == (202, *shapes[name])
    np.save(tmp_path / "codes.npy", found.codes.numpy())
    parts = list(iterate_decodable(tmp_path / "codes.npy", coded))
    torch.testing.assert_close(torch.cat([part.z for part in parts]), found.mean)
    with pytest.raises(ConfigError, match="codes"):
        kl_per_dimension(found)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_run_that_dies_goes_on_and_ends_with_the_same_files(model: VAE, digits: Split, tmp_path: Path) -> None:
    encode_to(model, digits, tmp_path / "whole")

    class PowerCutError(Exception):
        pass

    def die(done: int, *_: object) -> None:
        if done > 130:
            raise PowerCutError

    with pytest.raises(PowerCutError):
        encode_to(model, digits, tmp_path / "cut", batch_size=20, progress=die)
    (tmp_path / "cut" / ".latents-00003-of-00004.safetensors.123.tmp").write_bytes(b"half")
    left = {name: (tmp_path / "cut" / name).stat().st_mtime_ns for name in content(tmp_path / "cut")}
    assert len([name for name in left if name.startswith("latents-")]) == 2
    encode_to(model, digits, tmp_path / "cut")
    assert content(tmp_path / "cut").keys() == content(tmp_path / "whole").keys()
    for name, time in left.items():
        if name.startswith("latents-"):
            assert (tmp_path / "cut" / name).stat().st_mtime_ns == time
    torch.testing.assert_close(read_latents(tmp_path / "cut")[0].mean, read_latents(tmp_path / "whole")[0].mean)


def test_ranks_share_the_files_and_together_write_them_all(model: VAE, digits: Split, tmp_path: Path) -> None:
    encode_to(model, digits, tmp_path, shard=FileShard(1, 3))
    assert sorted(path.name for path in tmp_path.glob("latents-*")) == ["latents-00002-of-00004.safetensors"]
    with pytest.raises(DataError, match=r"3 of 4 .*latents-00001"):
        read_latents(tmp_path)
    for rank in (0, 2):
        encode_to(model, digits, tmp_path, shard=FileShard(rank, 3))
    torch.testing.assert_close(read_latents(tmp_path)[0].mean, encode(model, digits).mean)
    with pytest.raises(ConfigError, match=r"rank.* 3"):
        FileShard(3, 3)


def test_latents_of_another_model_are_not_mixed_in(model: VAE, digits: Split, tmp_path: Path) -> None:
    encode_to(model, digits, tmp_path)
    with torch.no_grad():
        next(model.parameters()).add_(1)
    with pytest.raises(OutputError, match="another model"):
        encode_to(model, digits, tmp_path)


def test_latents_of_other_tiles_are_not_mixed_in(tmp_path: Path) -> None:
    tiled = convae.build({"preset": "tokenizer-tiny-f4", "input": [1, 32, 32], "width": 8, "latent": 2})
    images = open_split(DataConfig(source="digits", size=(32, 32)), "test")
    encode_to(tiled, images, tmp_path / "out")
    tiled.use_tiles(16)
    with pytest.raises(OutputError, match="tiles"):
        encode_to(tiled, images, tmp_path / "out")
    path = encode_to(tiled, images, tmp_path / "out", force=True)
    assert json.loads(path.read_text())["tiles"] == {"size": [16, 16], "overlap": [0, 0]}
    encode_to(tiled, images, tmp_path / "out")
    tiled.use_tiles(None)
    with pytest.raises(OutputError, match="tiles"):
        encode_to(tiled, images, tmp_path / "out")


def test_a_damaged_manifest_is_not_written_over(model: VAE, digits: Split, tmp_path: Path) -> None:
    (tmp_path / "latents.json").write_text("{")
    with pytest.raises(OutputError, match="is damaged"):
        encode_to(model, digits, tmp_path)
    assert (tmp_path / "latents.json").read_text() == "{"


def test_damaged_files_are_named(model: VAE, digits: Split, tmp_path: Path) -> None:
    encode_to(model, digits, tmp_path)
    file = tmp_path / "latents-00002-of-00004.safetensors"
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(DataError, match=r"latents-00002-of-00004\.safetensors: damaged"):
        read_latents(tmp_path)


def test_files_that_do_not_go_together_are_named(model: VAE, digits: Split, tmp_path: Path) -> None:
    encode_to(model, digits, tmp_path, format="npz")
    two = np.zeros((2, 5), np.float32)
    np.savez(tmp_path / "latents-00001-of-00004.npz", mean=two, logvar=two, names=np.array(["a"]))
    with pytest.raises(DataError, match="damaged"):
        read_latents(tmp_path)
    np.savez(tmp_path / "latents-00001-of-00004.npz", mean=two, logvar=two, names=np.array(["a", "b"]))
    with pytest.raises(DataError, match=r"latents-00001-of-00004.* 5"):
        read_latents(tmp_path)


def test_a_pickle_in_an_npz_is_refused(model: VAE, digits: Split, tmp_path: Path) -> None:
    encode_to(model, digits, tmp_path, format="npz")
    np.savez(tmp_path / "latents-00001-of-00004.npz", mean=np.array([{}], object))
    with pytest.raises(DataError, match="damaged") as caught:
        read_latents(tmp_path)
    assert "allow_pickle" not in str(caught.value)


@pytest.mark.parametrize("written", ["", "[]", json.dumps({"files": 3}), json.dumps({"files": []}), "{"])
def test_a_folder_without_a_sound_manifest_is_named(tmp_path: Path, written: str) -> None:
    (tmp_path / "latents.json").write_text(written)
    with pytest.raises(DataError, match="not a manifest"):
        read_latents(tmp_path)


def test_a_folder_without_latents_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no latents"):
        read_latents(tmp_path)


def test_wrong_shapes_and_formats_are_refused(model: VAE, digits: Split, tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match="takes 1×28×28"):
        encode(convae.build({"preset": "torch-vae", "input": [1, 28, 28]}), digits)
    with pytest.raises(ConfigError, match="unknown format of latents 'pickle'"):
        encode_to(model, digits, tmp_path, format="pickle")


def test_the_manifest_holds_the_scale_of_the_latents(digits: Split, tmp_path: Path) -> None:
    maps = convae.build(
        {
            "input": [1, 8, 8],
            "encoder": [{"conv": {"channels": 4, "stride": 2}}],
            "bottleneck": {"gaussian": {"latent": 3}},
            "decoder": [{"conv-transpose": {"channels": 1, "stride": 2}}],
        }
    )
    encode_to(maps, digits, tmp_path)
    found, manifest = read_latents(tmp_path)
    said, mean = manifest["statistics"], found.mean.double()
    assert said["images"] == 202
    assert said["mean"] == pytest.approx(float(mean.mean()))
    assert said["std"] == pytest.approx(float(mean.std()))
    assert said["scaling_factor"] == pytest.approx(1 / float(mean.std()))
    assert said["channel_mean"] == pytest.approx(mean.mean((0, 2, 3)).tolist())
    assert said["channel_std"] == pytest.approx(mean.transpose(0, 1).flatten(1).std(1).tolist())
    drawn = mean + torch.randn(mean.shape, dtype=torch.float64) * (0.5 * found.logvar.double()).exp()
    assert said["drawn_std"] == pytest.approx(float(drawn.std()), rel=0.02)


def test_the_manifest_has_no_deviation_of_draws_around_another_mean(digits: Split, tmp_path: Path) -> None:
    sphere = convae.build(
        {"preset": "torch-vae", "input": [1, 8, 8], "bottleneck": {"von-mises-fisher": {"latent": 3}}}
    )
    encode_to(sphere, digits, tmp_path)
    assert read_latents(tmp_path)[1]["statistics"]["drawn_std"] is None


def test_a_part_of_the_files_has_no_scale_yet(model: VAE, digits: Split, tmp_path: Path) -> None:
    path = encode_to(model, digits, tmp_path, shard=FileShard(0, 2))
    assert "statistics" not in json.loads(path.read_text())
    encode_to(model, digits, tmp_path, shard=FileShard(1, 2))
    encode_to(model, digits, tmp_path / "whole")
    assert path.read_bytes() == (tmp_path / "whole" / "latents.json").read_bytes()


def test_another_format_is_said_and_force_replaces_what_convae_wrote_alone(
    model: VAE, digits: Split, tmp_path: Path
) -> None:
    encode_to(model, digits, tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "latents-of-mine.npz").write_text("mine")
    with pytest.raises(OutputError, match=r"another format, safetensors.*--force"):
        encode_to(model, digits, tmp_path, format="npz")
    encode_to(model, digits, tmp_path, format="npz", force=True)
    ours = {f"latents-{number:05d}-of-00004.npz" for number in range(1, 5)}
    assert content(tmp_path).keys() == {"notes.txt", "latents-of-mine.npz", "latents.json"} | ours
    torch.testing.assert_close(read_latents(tmp_path)[0].mean, encode(model, digits).mean)


def test_files_without_their_manifest_are_not_taken_for_these_latents(
    model: VAE, digits: Split, tmp_path: Path
) -> None:
    encode_to(model, digits, tmp_path)
    (tmp_path / "latents.json").unlink()
    with torch.no_grad():
        next(model.parameters()).add_(1)
    with pytest.raises(OutputError, match="without their manifest"):
        encode_to(model, digits, tmp_path)
    encode_to(model, digits, tmp_path, force=True)
    torch.testing.assert_close(read_latents(tmp_path)[0].mean, encode(model, digits).mean)


def test_latents_that_are_not_finite_are_refused_by_the_images_name(model: VAE, digits: Split, tmp_path: Path) -> None:
    with torch.no_grad():
        model.get_parameter("bottleneck.weight").fill_(float("nan"))
    with pytest.raises(DataError, match=digits.key(0)):
        encode_to(model, digits, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_all_images_of_a_data_set_say_their_split(model: VAE) -> None:
    whole = open_split(DataConfig(source="digits"), "all")
    found = encode(model, whole)
    assert found.splits is not None
    parts: tuple[SplitName, ...] = ("train", "validation", "test")
    for name in parts:
        own = open_split(DataConfig(source="digits"), name)
        assert [key for key, part in zip(found.names, found.splits, strict=True) if part == name] == own.keys


def test_encoding_and_decoding_leave_the_mode_of_the_model_alone(model: VAE, digits: Split) -> None:
    model.train()
    model.decoder.eval()
    encode(model, digits)
    decode(model, torch.zeros(2, 3))
    assert (model.training, model.encoder.training, model.decoder.training) == (True, True, False)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.bfloat16])
def test_latents_of_another_floating_type_are_decoded(model: VAE, dtype: torch.dtype) -> None:
    z = torch.tensor([[0.5, -0.25, 1.0]])
    torch.testing.assert_close(decode(model, z.to(dtype)), decode(model, z))
    assert decode(model, z[:0]).shape == (0, 1, 8, 8)
    with pytest.raises(DataError, match="first is number 1"):
        decode(model, torch.tensor([[0.0, 0, 0], [0, float("nan"), 0]]))


@pytest.mark.parametrize("format", FORMATS)
def test_names_that_are_no_utf8_are_written(tmp_path: Path, format: str) -> None:
    name = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    z = torch.zeros(1, 2)
    given = Encoding(z, z.clone(), torch.tensor([0]), [name], None, [name])
    formats.find_writer(format)(tmp_path / f"latents.{format}", given)
    (found,) = formats.read_encoding(tmp_path / f"latents.{format}").names
    assert found in (name, "caf\\udce9.jpg")
    tables.write_table(tmp_path / "table.csv", tables.encoding_columns(given))
    assert b"caf\\udce9.jpg" in (tmp_path / "table.csv").read_bytes()
