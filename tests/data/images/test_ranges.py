"""The values of images: named where they use a sliver of their range, spread by `range`, never cut without a word."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from convae.core.errors import ConfigError
from convae.data import DataConfig, Split, open_split

GENERATOR = np.random.default_rng(0)


def save(folder: Path, name: str, top: int, kind: str = "uint8", low: int = 0) -> np.ndarray:
    """An image whose values go from `low` to `top`."""
    folder.mkdir(exist_ok=True)
    values = GENERATOR.integers(low, top + 1, (8, 8)).astype(kind)
    values[0, :2] = low, top
    Image.fromarray(values).save(folder / name)
    return values


def everything(path: Path, **options: Any) -> Split:
    given = {"folder": {"path": str(path), **options}} if options else str(path)
    return open_split(DataConfig(source=given), "all")


def test_single_images_of_a_sliver_are_named_among_others(tmp_path: Path) -> None:
    for number in range(6):
        save(tmp_path / "set", f"a{number}.png", 255)
    for number in range(3):
        save(tmp_path / "set", f"mask{number}.png", 1)
    Image.new("L", (8, 8)).save(tmp_path / "set" / "black.png")
    (note,) = everything(tmp_path / "set").notes
    for fact in ("4 of 10", "8 bits", "1 of 255", "mask0.png"):
        assert fact in note
    for number in range(3):
        save(tmp_path / "set", f"deep{number}.tif", 4095, "uint16")
        save(tmp_path / "set", f"full{number}.tif", 65535, "uint16")
    notes = " | ".join(everything(tmp_path / "set").notes)
    for fact in ("mask0.png", "3 of 16", "4095 of 65535", "deep0.tif", "10 of 8 bits, 6 of 16 bits"):
        assert fact in notes


@pytest.mark.parametrize("top", [255, 200])
def test_ordinary_images_are_not_named(tmp_path: Path, top: int) -> None:
    for number in range(4):
        save(tmp_path / "set", f"{number}.png", top)
    Image.new("1", (8, 8)).save(tmp_path / "set" / "bits.png")
    Image.new("L", (8, 8), 7).save(tmp_path / "set" / "blank.png")
    assert [note for note in everything(tmp_path / "set").notes if "only, such as" in note] == []


@pytest.mark.parametrize(
    ("low", "top", "kind", "suggested"),
    [(10, 130, "uint8", "[0, 130]"), (60, 120, "uint8", "[60, 127]"), (30000, 40000, "uint16", "[30000, 40000]")],
)
def test_the_range_that_is_proposed_spreads_the_values(
    tmp_path: Path, low: int, top: int, kind: str, suggested: str
) -> None:
    for number in range(3):
        save(tmp_path / "set", f"{number}.{'png' if kind == 'uint8' else 'tif'}", top, kind, low)
    (note,) = everything(tmp_path / "set").notes
    assert f"range: {suggested}" in note


def test_the_range_that_is_proposed_for_floats_holds_them_and_spreads_them(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.linspace(0.4141, 0.6161, 3 * 64).reshape(3, 8, 8))
    (note,) = open_split(DataConfig(source=str(tmp_path / "a.npy")), "all").notes
    assert "range: [0.41, 0.62]" in note


def test_values_far_from_zero_are_named_from_where_to_where(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / "set", f"{number}.tif", 36863, "uint16", low=32768)
    (note,) = everything(tmp_path / "set").notes
    assert "32768 to 36863" in note


def test_a_gray_folder_of_several_depths_keeps_the_widest(tmp_path: Path) -> None:
    shallow = save(tmp_path / "set", "a.png", 255)
    deep = save(tmp_path / "set", "b.tif", 65535, "uint16")
    split = everything(tmp_path / "set")
    assert split.kind == "uint16"
    images = split.images([0, 1])[:, 0].numpy()
    np.testing.assert_array_equal(images[0], shallow.astype(np.uint16) * 257)
    np.testing.assert_array_equal(images[1], deep)


def test_deep_gray_among_colors_is_stored_with_fewer_bits_and_named(
    tmp_path: Path, photo: Callable[..., Image.Image]
) -> None:
    save(tmp_path / "set", "b.tif", 65535, "uint16")
    photo(8, 8).save(tmp_path / "set" / "a.png")
    split = everything(tmp_path / "set")
    assert split.kind == "uint8"
    assert "b.tif" in next(note for note in split.notes if "more than 8 bits" in note)


def test_a_range_is_for_the_files_whose_type_reaches_it(tmp_path: Path) -> None:
    shallow = save(tmp_path / "set", "a.png", 255)
    deep = save(tmp_path / "set", "b.tif", 4095, "uint16")
    split = everything(tmp_path / "set", range=[0, 4095])
    images = split.images([0, 1])[:, 0].numpy() / 65535
    np.testing.assert_allclose(images[0], shallow / 255, atol=1e-5)
    np.testing.assert_allclose(images[1], deep / 4095, atol=1e-5)


def test_what_lies_outside_a_range_is_skipped_with_its_values(tmp_path: Path) -> None:
    save(tmp_path / "set", "a.tif", 4095, "uint16")
    save(tmp_path / "set", "b.tif", 5000, "uint16")
    ((name, reason),) = everything(tmp_path / "set", range=[0, 4095]).skipped
    assert name == "b.tif"
    for fact in ("5000", "[0, 4095]", "`range`"):
        assert fact in reason


@pytest.mark.parametrize("wrong", [[1, 0], [3, 3], [0], [0, "x"], [0, float("inf")]])
@pytest.mark.parametrize("source", ["folder", "arrays"])
def test_a_range_has_two_ascending_numbers(tmp_path: Path, wrong: list[float | str], source: str) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 4, 4), np.uint8))
    path = tmp_path if source == "folder" else tmp_path / "a.npy"
    with pytest.raises(ConfigError, match="range"):
        open_split(DataConfig(source={source: {"path": str(path), "range": wrong}}), "all")


def test_a_range_is_for_colors_and_palettes_too(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    colors = GENERATOR.integers(0, 16, (8, 8, 3), np.uint8)
    Image.fromarray(colors).save(tmp_path / "set" / "a.png")
    indexed = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) % 4, "P")
    indexed.putpalette([0, 0, 0, 1, 2, 3, 15, 0, 0, 0, 15, 0])
    indexed.save(tmp_path / "set" / "b.png")
    images = everything(tmp_path / "set", range=[0, 15]).images([0, 1]).numpy()
    np.testing.assert_array_equal(images[0], np.moveaxis(colors * 17, -1, 0))
    assert images[1][:, 0, 1].tolist() == [17, 34, 51]


def test_signed_and_floating_point_files_are_used_with_a_range(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for number, kind in enumerate(("float32", "int32")):
        Image.fromarray(np.array([[-100, 300], [100, 0]], kind)).save(tmp_path / "set" / f"{number}.tif")
    split = everything(tmp_path / "set", range=[-100, 300])
    assert (split.kind, split.skipped) == ("float32", [])
    for image in split.images([0, 1])[:, 0].numpy():
        np.testing.assert_allclose(image, [[0.0, 1.0], [0.5, 0.25]])


def twelve_bits() -> bytes:
    """A TIFF file of two values of 12 bits, 4095 and 0."""
    tags = [(256, 4, 2), (257, 4, 1), (258, 3, 12), (259, 3, 1), (262, 3, 1)]
    tags += [(273, 4, 8), (277, 3, 1), (278, 4, 1), (279, 4, 3)]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    pixels = bytes([0xFF, 0xF0, 0x00, 0])
    return struct.pack("<2sHI", b"II", 42, 12) + pixels + struct.pack("<H", len(tags)) + entries + bytes(4)


def test_values_of_12_bits_fill_the_range_that_their_header_states(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.tif").write_bytes(twelve_bits())
    split = everything(tmp_path / "set")
    assert split.images([0]).flatten().tolist() == [65535, 0]
    assert split.notes == []


def deep_png() -> bytes:
    """A PNG file of one pixel of three times 16 bits."""
    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    pixel = zlib.compress(bytes([0, 255, 255, 128, 0, 0, 0]))
    found = b"\x89PNG\r\n\x1a\n"
    for kind, data in ((b"IHDR", header), (b"IDAT", pixel), (b"IEND", b"")):
        found += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return found


def test_colors_of_16_bits_that_become_8_are_named(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.png").write_bytes(deep_png())
    content = b"P6 1 1 65535\n" + bytes([255, 255, 128, 0, 0, 0])
    Image.open(io.BytesIO(content)).close()
    (tmp_path / "set" / "b.ppm").write_bytes(content)
    split = everything(tmp_path / "set")
    assert split.kind == "uint8"
    assert "all 2 images have more than 8 bits" in " ".join(split.notes)


def test_what_was_taken_over_from_an_earlier_store_is_still_named(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / "set", f"{number}.png", 1)
    before = everything(tmp_path / "set").notes
    save(tmp_path / "set", "3.png", 1)
    assert [note.replace("all 4", "all 3") for note in everything(tmp_path / "set").notes] == before != []
