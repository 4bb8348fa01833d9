"""Files of several pages and of more samples than Pillow reads: all that is in them is used, refused or named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from narrow import present
from PIL import Image, TiffImagePlugin

from convae.core.errors import ConfigError
from convae.data import DataConfig, Split, open_split
from convae.data.images import headers


def stack(path: Path, pages: list[np.ndarray], **options: Any) -> None:
    """A file of several pages: page k of file n is filled with 10 n + k."""
    first, *others = [Image.fromarray(page) for page in pages]
    first.save(path, save_all=True, append_images=others, **options)


@pytest.fixture
def stacks(tmp_path: Path) -> Path:
    """Two TIFF files of three pages and one of a single page."""
    folder = tmp_path / "stacks"
    folder.mkdir()
    for number, count in ((0, 3), (1, 3), (2, 1)):
        pages = [np.full((4, 5), 10 * number + page, np.uint8) for page in range(count)]
        stack(folder / f"{number}.tif", pages)
    return folder


def everything(path: Path, **options: Any) -> Split:
    return open_split(DataConfig(source={"folder": {"path": str(path), **options}}), "all")


def levels(split: Split) -> list[int]:
    return split.images(range(len(split)))[:, 0, 0, 0].tolist()


def test_the_first_page_is_used_and_the_others_are_told(stacks: Path) -> None:
    split = everything(stacks)
    assert levels(split) == [0, 10, 20]
    (note,) = [note for note in split.notes if "pages" in note]
    for fact in ("4 of 7", "0.tif", "pages: all"):
        assert fact in note


def test_each_page_may_be_an_image_that_has_its_file_in_its_name(stacks: Path) -> None:
    split = everything(stacks, pages="all")
    assert split.keys == ["0.tif#0", "0.tif#1", "0.tif#2", "1.tif#0", "1.tif#1", "1.tif#2", "2.tif"]
    assert levels(split) == [0, 1, 2, 10, 11, 12, 20]
    assert "left out" not in " ".join(split.notes)


def test_the_pages_of_a_file_are_never_in_two_parts(tmp_path: Path) -> None:
    (tmp_path / "stacks").mkdir()
    for number in range(8):
        stack(
            tmp_path / "stacks" / f"{number}.tif", [np.full((4, 4), 10 * number + page, np.uint8) for page in range(5)]
        )
    source = {"folder": {"path": str(tmp_path / "stacks"), "pages": "all"}}
    splits = [open_split(DataConfig(source=source, test=0.3), part) for part in ("train", "validation", "test")]
    files = [{key.partition("#")[0] for key in split.keys} for split in splits]
    assert sum(map(len, files)) == len(set.union(*files)) == 8


def test_pages_have_the_class_and_part_of_their_file(stacks: Path) -> None:
    for name in ("0", "1", "2"):
        place = stacks / ("test" if name == "2" else "train") / name / f"{name}.tif"
        place.parent.mkdir(parents=True)
        (stacks / f"{name}.tif").rename(place)
    split = open_split(DataConfig(source={"folder": {"path": str(stacks), "pages": "all"}}, validation=0), "train")
    assert split.classes is not None
    assert [split.classes[label] for label in present(split.labels)] == ["0"] * 3 + ["1"] * 3


def test_a_file_may_be_a_volume_or_its_pages_channels(stacks: Path) -> None:
    (stacks / "2.tif").unlink()
    volumes, channels = everything(stacks, pages="volume"), everything(stacks, pages="channels")
    assert (volumes.shape, channels.shape) == ((1, 3, 4, 5), (3, 4, 5))
    for split in (volumes, channels):
        np.testing.assert_array_equal(split.images([0, 1]).numpy().reshape(2, 3, 20)[..., 0], [[0, 1, 2], [10, 11, 12]])
        assert split.notes == [note for note in split.notes if "pages" not in note]


def test_a_volume_of_other_pages_is_skipped_and_named(stacks: Path) -> None:
    split = open_split(DataConfig(source={"folder": {"path": str(stacks), "pages": "volume"}}, size=(3, 4, 5)), "all")
    assert [name for name, _ in split.skipped] == ["2.tif"]


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_animations_are_told_like_stacks(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "set").mkdir()
    stack(tmp_path / "set" / f"a.{suffix}", [np.full((8, 8), level, np.uint8) for level in (0, 100, 200)])
    assert "2 of 3 pages" in " ".join(everything(tmp_path / "set").notes)
    assert len(everything(tmp_path / "set", pages="all")) == 3


def test_reduced_copies_are_no_pages(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[254] = 1
    small = Image.new("L", (4, 4))
    small.encoderinfo = {"tiffinfo": info}
    Image.new("L", (8, 8), 9).save(tmp_path / "set" / "a.tif", save_all=True, append_images=[small])
    assert not [note for note in everything(tmp_path / "set").notes if "pages" in note]


def test_a_table_and_a_list_know_pages_too(stacks: Path) -> None:
    (stacks / "table.csv").write_text("path,label\n0.tif,a\n2.tif,b\n")
    table = {"manifest": {"path": str(stacks / "table.csv"), "pages": "all"}}
    split = open_split(DataConfig(source=table), "all")
    assert split.keys == ["0.tif#0", "0.tif#1", "0.tif#2", "2.tif"]
    assert present(split.labels).tolist() == [0, 0, 0, 1]
    paths = {"files": {"paths": [str(stacks / "0.tif")], "pages": "all"}}
    assert len(open_split(DataConfig(source=paths), "all")) == 3
    with pytest.raises(ConfigError, match="pages"):
        everything(stacks, pages="every")


def tags(path: Path, samples: int, bits: int, sample_format: int = 1, photometric: int | None = None) -> np.ndarray:
    """An uncompressed TIFF file of one strip."""
    dtype = np.dtype(f"{'?uif??c'[sample_format]}{bits // 8}")
    values = np.arange(4 * 5 * samples).reshape(4, 5, samples).astype(dtype)
    ifd = TiffImagePlugin.ImageFileDirectory_v2()
    ifd.update({256: 5, 257: 4, 258: (bits,) * samples, 259: 1, 277: samples})
    ifd[262] = photometric if photometric is not None else 2 if samples in {3, 4} else 1
    ifd.update({278: 4, 279: values.nbytes, 284: 1, 339: (sample_format,) * samples})
    if samples > 1 and samples != 3 and photometric is None:
        ifd[338] = (0,) * (samples - (3 if samples == 4 else 1))
    with path.open("wb") as file:
        ifd[273] = 0  # Pillow counts from the end of the directory
        ifd.save(file)
        file.write(values.tobytes())
    return values


SAMPLES = {
    "five": (5, 8, 1),
    "five deep": (5, 16, 1),
    "two": (2, 8, 1),
    "near infrared": (4, 8, 1),
    "signed": (1, 8, 2),
}


@pytest.mark.parametrize("kind", SAMPLES)
def test_samples_that_pillow_cannot_read_are_refused_with_the_remedy(
    tmp_path: Path, photo: Callable[..., Image.Image], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(headers, "has_tifffile", lambda: False)
    (tmp_path / "set").mkdir()
    photo(5, 4).save(tmp_path / "set" / "good.png")
    tags(tmp_path / "set" / "odd.tif", *SAMPLES[kind])
    (skipped,) = open_split(DataConfig(source=tmp_path / "set", size=(4, 5), channels=3), "all").skipped
    assert skipped[0] == "odd.tif"
    assert f"{SAMPLES[kind][0]} " in skipped[1]
    assert "convae[tiff]" in skipped[1]


def test_deep_colors_are_read_with_fewer_bits_and_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headers, "has_tifffile", lambda: False)
    (tmp_path / "set").mkdir()
    tags(tmp_path / "set" / "a.tif", 3, 16)
    split = everything(tmp_path / "set")
    assert (split.shape, split.kind) == ((3, 4, 5), "uint8")
    assert "a.tif" in next(note for note in split.notes if "more than 8 bits" in note)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [2, 3, 5])
def test_all_samples_are_read_where_tifffile_is_there(tmp_path: Path, bits: int, channels: int) -> None:
    if (channels, bits) == (3, 8):
        channels = 6
    (tmp_path / "set").mkdir()
    values = tags(tmp_path / "set" / "a.tif", channels, bits)
    split = everything(tmp_path / "set")
    assert (split.shape, split.kind) == ((channels, 4, 5), f"uint{bits}")
    np.testing.assert_array_equal(np.moveaxis(split.images([0])[0].numpy(), 0, -1), values)


@pytest.mark.parametrize("bits", [8, 16])
def test_values_whose_zero_is_white_are_inverted(tmp_path: Path, bits: int) -> None:
    (tmp_path / "set").mkdir()
    values = tags(tmp_path / "set" / "a.tif", 1, bits, photometric=0)
    split = everything(tmp_path / "set")
    assert split.kind == f"uint{bits}"
    np.testing.assert_array_equal(split.images([0])[0, 0].numpy(), 2**bits - 1 - values[..., 0])


def test_deep_cmyk_becomes_rgb_as_shallow_cmyk_does(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    tags(tmp_path / "set" / "a.tif", 4, 16, photometric=5)
    split = everything(tmp_path / "set")
    assert (split.shape, split.kind) == ((3, 4, 5), "uint8")
    assert any("more than 8 bits" in note for note in split.notes)


@pytest.mark.parametrize(("samples", "bits", "sample_format", "photometric"), [(3, 16, 1, 8), (1, 64, 6, 1)])
def test_color_spaces_and_numbers_that_are_no_intensities_are_refused(
    tmp_path: Path, photo: Callable[..., Image.Image], samples: int, bits: int, sample_format: int, photometric: int
) -> None:
    (tmp_path / "set").mkdir()
    photo(5, 4).save(tmp_path / "set" / "good.png")
    tags(tmp_path / "set" / "odd.tif", samples, bits, sample_format, photometric)
    split = open_split(DataConfig(source=tmp_path / "set", size=(4, 5), channels=3), "all")
    ((name, reason),) = split.skipped
    assert name == "odd.tif"
    assert "RGB" in reason or "real numbers" in reason


def test_pages_that_tifffile_cannot_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    tags(tmp_path / "set" / "good.tif", 5, 8)
    tags(tmp_path / "set" / "short.tif", 5, 8)
    content = (tmp_path / "set" / "short.tif").read_bytes()
    (tmp_path / "set" / "short.tif").write_bytes(content[:-60])
    split = everything(tmp_path / "set")
    assert split.keys == ["good.tif"]
    assert [name for name, _ in split.skipped] == ["short.tif"]


def test_channels_in_planes_are_channels(tmp_path: Path) -> None:
    values = np.arange(5 * 4 * 6, dtype=np.uint8).reshape(5, 4, 6)
    (tmp_path / "set").mkdir()
    tifffile.imwrite(tmp_path / "set" / "a.tif", values, photometric="minisblack", planarconfig="separate")
    np.testing.assert_array_equal(everything(tmp_path / "set").images([0])[0], values)


def test_installing_the_library_is_noticed(
    tmp_path: Path, photo: Callable[..., Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "set").mkdir()
    photo(5, 4).save(tmp_path / "set" / "good.png")
    tags(tmp_path / "set" / "b.tif", 3, 16)
    tags(tmp_path / "set" / "c.tif", 5, 8)
    config = DataConfig(source=tmp_path / "set", size=(4, 5), channels=3)
    with monkeypatch.context() as absent:
        absent.setattr(headers, "has_tifffile", lambda: False)
        assert [name for name, _ in open_split(config, "all").skipped] == ["c.tif"]
    assert "tiff]" not in str(open_split(config, "all").skipped)
