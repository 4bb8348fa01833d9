"""JPEG files with and without simplejpeg: the same images, the same pixels, the same reasons."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from narrow import narrow
from PIL import Image

from convae.core.errors import DataError
from convae.data.images import jpeg
from convae.data.images.conversion import preprocess
from convae.data.images.reading import decode

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


Found = str | tuple[np.ndarray, tuple[int, int]]
Both = Callable[..., tuple[Any, Any]]


def read(content: bytes | Path, near: tuple[int, int] | None, megapixels: float = 80.0) -> Found:
    """The pixels and the size in the file, or the reason against them."""
    try:
        image, header = decode(content, near, megapixels)
    except DataError as error:
        return str(error)
    return np.asarray(image).reshape(*np.asarray(image).shape[:2], -1), header.size


@pytest.fixture
def both(monkeypatch: pytest.MonkeyPatch) -> Both:
    """What is read with simplejpeg and without."""

    def read_twice(
        content: bytes | Path, near: tuple[int, int] | None = None, megapixels: float = 80.0
    ) -> tuple[Any, Any]:
        with monkeypatch.context() as patch:
            patch.setattr(jpeg, "simplejpeg", None)
            slow = read(content, near, megapixels)
        return read(content, near, megapixels), slow

    return read_twice


def content_of(image: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


OPTIONS = [
    {},
    {"quality": 30},
    {"progressive": True},
    {"subsampling": 0},
    {"subsampling": 1},
    {"keep_rgb": True},
    {"restart_marker_blocks": 3},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("near", [None, (16, 16), (40, 8)])
def test_pixels_are_equal_bit_for_bit(
    both: Both,
    photo: Callable[..., Image.Image],
    mode: str,
    options: dict[str, int],
    near: tuple[int, int] | None,
) -> None:
    content = content_of(photo(181, 123, mode), **{key: value for key, value in options.items() if mode == "RGB"})
    (quick, size), (slow, its_size) = both(content, near)
    assert size == its_size == (123, 181)
    np.testing.assert_array_equal(quick, slow)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_alike(
    both: Both, photo: Callable[..., Image.Image], tmp_path: Path, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.jpg"
    photo(40, 30).save(path, exif=exif)
    (quick, size), (slow, its_size) = both(path)
    assert size == its_size == ((40, 30) if orientation > 4 else (30, 40))
    np.testing.assert_array_equal(quick, slow)


def test_the_orientation_in_xmp_data_counts_too(both: Both, photo: Callable[..., Image.Image]) -> None:
    (quick, size), (slow, _) = both(content_of(photo(40, 30), xmp=XMP))
    assert (quick.shape, size) == ((40, 30, 3), (40, 30))
    np.testing.assert_array_equal(quick, slow)


def test_it_is_taken_where_it_is_there(photo: Callable[..., Image.Image], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("Pillow was asked"))
    pixels, header = decode(content_of(photo(178, 218)), (64, 64), 80.0)
    assert (narrow(np.ndarray, pixels).shape, header.size) == ((109, 89, 3), (218, 178))
    assert preprocess(pixels, (64, 64)).shape == (64, 64, 3)


def test_what_is_refused_is_refused_for_the_same_reason(
    both: Both, photo: Callable[..., Image.Image], tmp_path: Path
) -> None:
    content = content_of(photo(200, 100))
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "empty.jpg").touch()
    for given, limit in (
        (content, 0.01),
        (content[:-100], 80.0),
        (content[:20], 80.0),
        (b"\xff\xd8\xff junk", 80.0),
        (b"", 80.0),
        (tmp_path / "none.jpg", 80.0),
        (tmp_path / "folder.jpg", 80.0),
        (tmp_path / "empty.jpg", 80.0),
    ):
        quick, slow = both(given, None, limit)
        assert isinstance(quick, str)
        assert quick == slow


def test_damaged_files_come_out_alike(both: Both, photo: Callable[..., Image.Image]) -> None:
    good = content_of(photo(64, 48))
    random = np.random.default_rng(0)
    taken = 0
    for _ in range(300):
        content = bytearray(good)
        for place in random.integers(2, len(content), random.integers(1, 4)):
            content[place] = random.integers(256)
        quick, slow = both(bytes(content), (16, 16))
        if isinstance(slow, str):
            # Pillow reads segments that say nothing of the pixels, and may not like them.
            assert isinstance(quick, str)
            assert quick == slow
        else:
            taken += 1
            assert quick[1] == slow[1]
            np.testing.assert_array_equal(quick[0], slow[0])
    assert 20 < taken < 280
