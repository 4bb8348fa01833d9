"""CIFAR: 32×32 color images in the binary version, compressed or not."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from convae.core.errors import DataError
from convae.core.files import read_bytes
from convae.core.progress import Progress
from convae.data.io.archives import read_tar
from convae.data.sources.base.published import PublishedSource
from convae.data.sources.base.source import PARTS, Column, Listing, Record, Survey

_VALUES = 3 * 32 * 32
_SLACK = 4
"""Size limit of a file as a multiple of its pixels."""


class CifarSource(PublishedSource):
    """A CIFAR data set. Subclasses state its files, in the order of the images, and the labels of its records.

    Attributes:
        train, test: names of the files without suffix, and the number of images in each.
        labels: the column of each byte before the pixels.
        label: column of the label.
        classes: names of the classes of each column.
        folder: folder of the unpacked archive.
    """

    train: ClassVar[Mapping[str, int]]
    test: ClassVar[Mapping[str, int]]
    labels: ClassVar[tuple[str, ...]]
    label: ClassVar[str]
    classes: ClassVar[Mapping[str, tuple[str, ...]]]
    folder: ClassVar[str]
    origin: ClassVar = "https://www.cs.toronto.edu/~kriz/cifar.html"

    def locate(self, folder: Path) -> Mapping[str, Path] | None:
        """The archive of the binary version, or its unpacked files."""
        archive = folder / self.remotes[0].name
        if archive.is_file():
            return {"archive": archive}
        for inner in (folder, folder / self.folder):
            paths = {f"{stem}.bin": inner / f"{stem}.bin" for stem in (*self.train, *self.test)}
            if all(path.is_file() for path in paths.values()):
                return paths
        return None

    def survey(self, progress: Progress | None = None, *, sizes: bool = True) -> Survey:
        """32×32, RGB."""
        return Survey((32, 32), 3)

    def listing(self) -> Listing:
        """The training images, then the test images."""
        counts = [sum(self.train.values()), sum(self.test.values())]
        names = [
            f"{part}/{index:05d}"
            for part, count in zip(("train", "test"), counts, strict=True)
            for index in range(count)
        ]
        parts = np.repeat(np.array([PARTS.index("train"), PARTS.index("test")], np.int8), counts)
        labels = self._content[1]
        columns = {
            name: Column(self._checked(name, labels[:, number]), self.classes[name])
            for number, name in enumerate(self.labels)
        }
        return Listing(names, columns, self.label, parts)

    def record(self, index: int, near: tuple[int, ...]) -> Record:
        """One image; `listing` reads all of them."""
        pixels = self._content[0][index].reshape(3, 32, 32)
        return Record(np.ascontiguousarray(np.moveaxis(pixels, 0, -1)), (32, 32))

    def _checked(self, name: str, labels: NDArray[np.int64]) -> NDArray[np.int64]:
        if labels.max() >= len(self.classes[name]):
            raise DataError(f"{self.name}: damaged: invalid {name} {labels.max()}. Download it again")
        return labels

    @cached_property
    def _content(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """(images, 3072) pixels, channels first, and (images, columns) labels."""
        counts = {**self.train, **self.test}
        archive = self.files.get("archive")
        names = {f"{stem}.bin": count for stem, count in counts.items()}
        if archive is None:
            found = [
                self._records(_content(path, names[name]), names[name], str(path)) for name, path in self.files.items()
            ]
        else:
            contents = read_tar(archive, {name: _SLACK * count * _VALUES for name, count in names.items()})
            found = [self._records(contents[name], count, f"{archive}: {name}") for name, count in names.items()]
        return np.concatenate([pixels for pixels, _ in found]), np.concatenate([labels for _, labels in found])

    def _records(self, content: bytes, count: int, where: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """(images, bytes) records: the labels, one byte each, then the pixels."""
        length = len(self.labels) + _VALUES
        if len(content) != count * length:
            raise DataError(f"{where}: expected {count * length} bytes, got {len(content)}. Download it again")
        records = np.frombuffer(content, np.uint8).reshape(count, length)
        return records[:, len(self.labels) :], records[:, : len(self.labels)].astype(np.int64)


def _content(path: Path, count: int) -> bytes:
    """Reads a file with this number of images."""
    try:
        return read_bytes(path, _SLACK * count * _VALUES)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}). Download it again") from error
