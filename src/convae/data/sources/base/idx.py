"""The IDX files of MNIST and similar data sets: a header with the sizes, then unsigned bytes; optionally gzip."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import math
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from io import BufferedIOBase
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from convae.core.errors import DataError
from convae.core.files import open_regular
from convae.core.names import count_text, shape_text
from convae.core.progress import Progress
from convae.data.io.download import Remote
from convae.data.sources.base.published import PublishedSource
from convae.data.sources.base.source import PARTS, Column, Listing, Record, Survey

_GZIP = b"\x1f\x8b"
"""First bytes of gzip files."""
_INFLATION = 1032
"""Largest compression ratio of deflate; a header that implies more is damaged."""


def read_idx(path: Path, axes: int) -> NDArray[np.uint8]:
    """Reads an IDX file of unsigned bytes with `axes` axes.

    Raises:
        DataError: unreadable, not gzip or IDX, wrong axes or type, or a length that differs from the header.
    """
    with _opened(path) as file:
        shape = _header(file, path, axes)
        expected = math.prod(shape)
        if expected > os.fstat(file.fileno()).st_size * _INFLATION:
            raise DataError(f"{path}: damaged: too short for the {shape_text(shape)} values in its header")
        content = file.read(expected)
        # Reading to the end also verifies the checksum of a gzip file.
        surplus = file.read(1)
    if len(content) != expected or surplus:
        found = "more" if surplus else f"only {len(content)}"
        raise DataError(f"{path}: damaged: expected {expected} values from its header, got {found}. Download it again")
    return np.frombuffer(content, np.uint8).reshape(shape)


def idx_shape(path: Path, axes: int) -> tuple[int, ...]:
    """The shape in the header of an IDX file.

    Raises:
        DataError: unreadable, or an invalid header.
    """
    with _opened(path) as file:
        return _header(file, path, axes)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BufferedIOBase]:
    """Opens a file, decompressed if it is gzip; browsers decompress `.gz` files without renaming them.

    Raises:
        DataError: it cannot be read, also inside the block.
    """
    try:
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(open_regular(path))
            packed = file.read(len(_GZIP)) == _GZIP
            file.seek(0)
            opened = stack.enter_context(gzip.GzipFile(fileobj=file)) if packed else file
            yield opened  # type: ignore[misc]  # both are buffered
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: damaged gzip file ({error}). Download it again") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def _header(file: BufferedIOBase, path: Path, axes: int) -> tuple[int, ...]:
    """Reads two zero bytes, the type (8: unsigned bytes), the number of axes, and a big-endian size per axis."""
    magic = file.read(4)
    if magic != bytes([0, 0, 8, axes]):
        raise DataError(
            f"{path}: damaged, or not an IDX file of unsigned bytes with {axes} axes (it begins with {magic.hex()})"
        )
    sizes = file.read(4 * axes)
    if len(sizes) != 4 * axes or 0 in (shape := tuple(int(size) for size in np.frombuffer(sizes, ">u4"))):
        raise DataError(f"{path}: damaged: its header is truncated or has a size of 0. Download it again")
    return shape


_TEST_LABELS = {
    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2": "mnist",
    "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34": "fashion-mnist",
}
"""SHA-256 of the decompressed test labels of data sets with the same file names."""


class IdxSource(PublishedSource):
    """Gray images in four IDX files, as in MNIST, compressed or not. Subclasses state the classes."""

    classes: ClassVar[tuple[str, ...]]

    def locate(self, folder: Path) -> Mapping[str, Path] | None:
        """Training and test images and labels, also under names that archivers and other projects use."""
        found: dict[str, Path] = {}
        for remote in self.remotes:
            stem = remote.name.removesuffix(".gz")
            dotted = stem.replace("-idx", ".idx")
            names = [remote.name, stem, f"{dotted}.gz", dotted, f"{stem}/{stem}", f"{dotted}/{dotted}"]
            there = [path for name in names if (path := folder / name).is_file()]
            if not there:
                return None
            found[stem.removesuffix("-ubyte")] = there[0]
        return found

    def survey(self, progress: Progress | None = None, *, sizes: bool = True) -> Survey:
        """The sizes in the header of the training images."""
        return Survey(idx_shape(self.files["train-images-idx3"], axes=3)[1:], 1)

    def listing(self) -> Listing:
        """The training images, then the test images."""
        train, test = (len(images) for images in self._images)
        names = [f"{part}/{index:05d}" for part, count in (("train", train), ("test", test)) for index in range(count)]
        parts = np.repeat(np.array([PARTS.index("train"), PARTS.index("test")], np.int8), [train, test])
        labels = np.concatenate([self._labels("train", train), self._labels("t10k", test)])
        return Listing(names, {"class": Column(labels, self.classes)}, "class", parts)

    def record(self, index: int, near: tuple[int, ...]) -> Record:
        """One image; the first call reads all of them."""
        train, test = self._images
        image = train[index] if index < len(train) else test[index - len(train)]
        return Record(image[..., None], image.shape)

    @cached_property
    def _images(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        paths = [self.files[f"{part}-images-idx3"] for part in ("train", "t10k")]
        train, test = (read_idx(path, axes=3) for path in paths)
        if train.shape[1:] != test.shape[1:]:
            raise DataError(
                f"{paths[1]}: the image size {shape_text(test.shape[1:])} differs from"
                f" {shape_text(train.shape[1:])} of {paths[0].name}; the files are of "
                "different data sets"
            )
        return train, test

    def _labels(self, part: str, count: int) -> NDArray[np.int64]:
        path = self.files[f"{part}-labels-idx1"]
        content = read_idx(path, axes=1)
        header = bytes([0, 0, 8, 1]) + np.array(content.shape, ">u4").tobytes()
        owner = _TEST_LABELS.get(hashlib.sha256(header + content.tobytes()).hexdigest(), self.name)
        if owner != self.name:
            raise DataError(f"{path}: is a file of {owner}, not of {self.name}. Use data.source={owner}")
        labels = content.astype(np.int64)
        if len(labels) != count:
            raise DataError(
                f"{path}: has {count_text(len(labels), 'label')} for {count_text(count, 'image')}; the files are of "
                "different data sets"
            )
        if labels.max() >= len(self.classes):
            raise DataError(f"{path}: has the label {labels.max()}, but {self.name} has {len(self.classes)} classes")
        return labels


def idx_remotes(mirrors: Sequence[str], facts: Mapping[str, tuple[int, str]]) -> tuple[Remote, ...]:
    """The published files, from their size in bytes and SHA-256 by file stem."""
    return tuple(
        Remote(name, tuple(mirror + name for mirror in mirrors), digest, size=size)
        for stem, (size, digest) in facts.items()
        for name in [f"{stem}-ubyte.gz"]
    )
