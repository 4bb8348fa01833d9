"""CIFAR: 32×32 colour images in binary records, or in the pickles of the Python edition; packed or not."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from convae.core.errors import DataError
from convae.core.files import read_bytes
from convae.core.progress import Progress
from convae.data.archives import read_tar
from convae.data.inert_pickle import pickled_bytes, read_pickle
from convae.data.published import PublishedSource
from convae.data.sources.base import PARTS, Column, Listing, Record, Survey

_VALUES = 3 * 32 * 32
_SLACK = 4
"""How many times its pixels a file may be long, with names and labels beside them."""


class CifarSource(PublishedSource):
    """A CIFAR set. An entry states its files, in the order of the images, and what labels its records begin with.

    Attributes:
        train, test: names of the files without their suffix, and how many images each holds.
        labels: the column of each byte before the pixels, and its key in the pickles.
        label: the column that counts as the label.
        classes: names of the classes of each column.
        folders: what the archives unpack to: of the binary edition, of the Python edition.
    """

    train: ClassVar[Mapping[str, int]]
    test: ClassVar[Mapping[str, int]]
    labels: ClassVar[Mapping[str, str]]
    label: ClassVar[str]
    classes: ClassVar[Mapping[str, tuple[str, ...]]]
    folders: ClassVar[tuple[str, str]]
    origin: ClassVar = "https://www.cs.toronto.edu/~kriz/cifar.html"

    def locate(self, folder: Path) -> Mapping[str, Path] | None:
        """The archive or the unpacked files, of either edition."""
        binary, python = self.folders
        for edition, archive, suffix in (
            (binary, self.remotes[0].name, ".bin"),
            (python, self.remotes[0].name.replace("binary", "python"), ""),
        ):
            if (folder / archive).is_file():
                return {"archive": folder / archive}
            for inner in (folder, folder / edition):
                paths = {f"{stem}{suffix}": inner / f"{stem}{suffix}" for stem in (*self.train, *self.test)}
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
        """One image; all of them are read when the listing is."""
        pixels = self._content[0][index].reshape(3, 32, 32)
        return Record(np.ascontiguousarray(np.moveaxis(pixels, 0, -1)), (32, 32))

    def _checked(self, name: str, labels: NDArray[np.int64]) -> NDArray[np.int64]:
        if labels.max() >= len(self.classes[name]):
            raise DataError(f"{self.name}: damaged: holds the {name} {labels.max()}: get it again")
        return labels

    @cached_property
    def _content(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """(images, 3072) pixels, channels first, and (images, columns) labels."""
        counts = {**self.train, **self.test}
        archive = self.files.get("archive")
        binary = any(path.name.endswith(".bin") or "binary" in path.name for path in self.files.values())
        names = {f"{stem}.bin" if binary else stem: count for stem, count in counts.items()}
        read = self._records if binary else self._pickled
        if archive is None:
            found = [read(_content(path, names[name]), names[name], str(path)) for name, path in self.files.items()]
        else:
            contents = read_tar(archive, {name: _SLACK * count * _VALUES for name, count in names.items()})
            found = [read(contents[name], count, f"{archive}: {name}") for name, count in names.items()]
        return np.concatenate([pixels for pixels, _ in found]), np.concatenate([labels for _, labels in found])

    def _records(self, content: bytes, count: int, where: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """From the binary edition: for each image its labels, a byte each, then its pixels."""
        length = len(self.labels) + _VALUES
        if len(content) != count * length:
            raise DataError(f"{where}: holds {len(content)} bytes instead of {count * length}: get it again")
        records = np.frombuffer(content, np.uint8).reshape(count, length)
        return records[:, len(self.labels) :], records[:, : len(self.labels)].astype(np.int64)

    def _pickled(self, content: bytes, count: int, where: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """From the Python edition, without unpickling."""
        found = read_pickle(content, where)
        columns: list[list[Any]] = [found.get(key, []) for key in self.labels.values()]
        for column in columns:
            if len(column) != count or not all(type(label) is int and 0 <= label < 256 for label in column):
                raise DataError(f"{where}: does not hold {count} labels: get it again")
        pixels = pickled_bytes(found.get("data"), (count, _VALUES), where)
        return pixels, np.array(columns, np.int64).T


def _content(path: Path, count: int) -> bytes:
    """A file of so many images."""
    try:
        return read_bytes(path, _SLACK * count * _VALUES)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}): get it again") from error
