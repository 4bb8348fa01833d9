"""Data sets of the Hugging Face Hub, by the library `datasets`, which is imported here alone."""

from __future__ import annotations

import importlib
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from convae.core.errors import ConfigError, DataError
from convae.core.names import unknown
from convae.core.progress import Progress
from convae.data.images import MEGAPIXELS, is_grey, load_with_size, opened, oriented_size
from convae.data.labels import PART_NAMES
from convae.data.places import Places
from convae.data.sources.base import Column, Listing, Record, Source, Survey

_SURVEYED = 256
"""Images whose headers are looked at."""


class HuggingFace(Source):
    """The images of a data set on the Hugging Face Hub; needs the extra `hugging-face`.

    Its splits `train`, `validation` and `test` are the official parts; any other is left out. Every column of classes
    is kept. Rows that cannot be decoded are skipped.

    Args:
        places: whether downloading is allowed; what is downloaded lies where `datasets` puts it.
        path: the data set's name on the Hub, or a local path that `datasets.load_dataset` takes.
        config: the configuration of a data set that has several.
        revision: the branch, tag or commit.
        image: the column of images; by default the first one.
        label: the column that is the label; by default the first column of classes.
    """

    def __init__(
        self,
        places: Places,
        *,
        path: str,
        config: str | None = None,
        revision: str | None = None,
        image: str | None = None,
        label: str | None = None,
    ) -> None:
        super().__init__(places)
        self._given = (path, config, revision)
        self._wanted = (image, label)

    @property
    def name(self) -> str:
        """`hugging-face` and the data set's name."""
        return f"hugging-face {self._given[0]}"

    def prepare(self, progress: Progress | None = None) -> None:
        """Loads the data set, which downloads it the first time."""
        del progress
        self._parts  # noqa: B018  # loaded when first looked at

    def fingerprint(self) -> str:
        """What `datasets` itself knows the parts by."""
        return " ".join(f"{name} {part._fingerprint}" for name, part in self._parts.items()) + f" {self._wanted}"

    def survey(self, progress: Progress | None = None, *, sizes: bool = True) -> Survey:
        """From the headers of the first images of the first part."""
        found: set[tuple[int, ...]] = set()
        grey = True
        part = next(iter(self._parts.values()))
        for row in range(min(len(part), _SURVEYED)):
            try:
                with opened(_content(part[row][self._image]), MEGAPIXELS) as image:
                    found.add(oriented_size(image))
                    grey = grey and is_grey(image)
            except DataError:
                continue
        if not found:
            raise DataError(f"{self.name}: none of its first images can be used")
        return Survey(found.pop() if len(found) == 1 else None, 1 if grey else 3)

    def listing(self) -> Listing:
        """The rows of all parts, one after the other."""
        names = [f"{name}/{row:06d}" for name, part in self._parts.items() for row in range(len(part))]
        numbers = [PART_NAMES[name] for name in self._parts]
        parts = np.repeat(np.array(numbers, np.int8), [len(part) for part in self._parts.values()])
        columns = {name: self._column(name, classes) for name, classes in self._classes.items()}
        label = self._wanted[1] or next(iter(columns), None)
        if label is not None and label not in columns:
            raise DataError(f"{self.name}: {unknown('column of classes', label, columns or ['nothing'])}")
        return Listing(names, columns, label, parts if len(set(numbers)) > 1 else None)

    def record(self, index: int, near: tuple[int, ...]) -> Record:
        """One image, decoded no larger than needed."""
        for part in self._parts.values():
            if index < len(part):
                return Record(*load_with_size(_content(part[index][self._image]), near, MEGAPIXELS))
            index -= len(part)
        raise IndexError(index)

    def _column(self, name: str, classes: tuple[str, ...]) -> Column:
        values = [-1 if value is None else value for part in self._parts.values() for value in part[name]]
        return Column(np.array(values, np.int64), classes)

    @cached_property
    def _parts(self) -> dict[str, Any]:
        """The official parts, their images undecoded."""
        try:
            datasets = importlib.import_module("datasets")
        except ImportError as error:
            raise ConfigError("data.source hugging-face needs an extra: pip install 'convae[hugging-face]'") from error
        path, config, revision = self._given
        where = datasets.DownloadConfig(local_files_only=not self._places.download)
        try:
            found = datasets.load_dataset(path, config, revision=revision, download_config=where)
        except Exception as error:  # The Hub, the network and the files can fail in any way.
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise DataError(f"{self.name}: cannot be loaded ({reason})") from error
        parts = {name: part for name, part in found.items() if name in PART_NAMES}
        if not parts:
            raise DataError(f"{self.name}: has no split train, validation or test, but {', '.join(found)}")
        features = next(iter(parts.values())).features
        images = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
        wanted = self._wanted[0]
        if not images or (wanted is not None and wanted not in images):
            raise DataError(f"{self.name}: {unknown('column of images', wanted or 'image', images or ['nothing'])}")
        self._image = wanted or images[0]
        self._classes = {
            name: tuple(feature.names) for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)
        }
        undecoded = datasets.Image(decode=False)
        return {name: part.cast_column(self._image, undecoded) for name, part in sorted(parts.items(), key=_place)}


def _place(item: tuple[str, Any]) -> int:
    return PART_NAMES[item[0]]


def _content(value: dict[str, Any] | None) -> Path | bytes:
    """The file of an image, or its content."""
    if value is None or (value.get("bytes") is None and not value.get("path")):
        raise DataError("there is no image in this row")
    content: bytes | None = value.get("bytes")
    return Path(value["path"]) if content is None else content
