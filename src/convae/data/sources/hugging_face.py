"""Data sets of the Hugging Face Hub or in its formats, through the library `datasets`."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from convae.core.errors import ConfigError, DataError
from convae.core.names import count_text, unknown_message
from convae.core.paths import PathOrName, local_path
from convae.core.progress import Progress
from convae.data.data_dirs import DataDirs
from convae.data.image_set import evenly_spaced
from convae.data.images.headers import Header
from convae.data.images.ranges import ValueRange, common_kind
from convae.data.images.reading import MEGAPIXELS, decode, header_or_reason
from convae.data.sources.base import Column, Listing, Record, Source, Survey, content_digest
from convae.data.sources.base.labels import PART_NAMES, numbered

_SURVEYED = 256
"""Largest number of images in the survey."""
_SAVED = ("dataset_dict.json", "state.json")
"""Files of `save_to_disk`, for several parts and for one."""


class HuggingFace(Source):
    """A data set of the library `datasets`; needs the extra `hugging-face`.

    On the Hub or on the disk: Parquet, a folder of images, or a result of `save_to_disk`. Its splits `train`,
    `validation` and `test` are the official parts; other splits are ignored unless there is only one. All class columns
    are kept; in a part without the column, labels are missing. Rows that cannot be decoded are skipped.

    Args:
        data_dirs: states whether downloads are allowed; their location is that of `datasets`.
        path: name of the data set on the Hub, or a folder.
        config: configuration, for a data set with several.
        revision: the branch, tag or commit.
        image: column of images, or of contents or paths of files; by default the first column of images.
        label: column of the label: classes, strings or integers; by default the first class column.
        range: the values mapped to 0 and 1, such as [0, 4095]; by default the range of the type of each image.
    """

    reading_options: ClassVar = frozenset({"range"})
    holds_image_files: ClassVar = True

    def __init__(
        self,
        data_dirs: DataDirs,
        *,
        path: PathOrName,
        config: str | None = None,
        revision: str | None = None,
        image: str | None = None,
        label: str | None = None,
        range: ValueRange | None = None,
    ) -> None:
        super().__init__(data_dirs)
        self._range = range
        self._given = (path, config, revision)
        self._wanted = (image, label)

    @property
    def name(self) -> str:
        """`hugging-face` and the name of the data set, or the last part of the path."""
        path = local_path(self._given[0])
        return f"hugging-face {path.resolve().name if path.is_dir() else self._given[0]}"

    def prepare(self, progress: Progress | None = None) -> None:
        """Loads the data set, with a download the first time."""
        del progress
        self._parts  # noqa: B018  # loaded when first looked at

    def fingerprint(self) -> str:
        """The fingerprints of `datasets`."""
        return (
            " ".join(f"{name} {part._fingerprint}" for name, part in self._parts.items())  # noqa: SLF001  # datasets offers no other
            + f" {self._wanted} {self._range}"
        )

    @property
    def value_range(self) -> tuple[float, float] | None:
        """The configured range."""
        return self._range

    def survey(self, progress: Progress | None = None, *, sizes: bool = True) -> Survey:
        """From the headers of evenly spaced images."""
        places = evenly_spaced(sum(self._lengths), _SURVEYED)
        headers = [header for place in places if isinstance(header := self._header_at(int(place)), Header)]
        if not headers:
            raise DataError(f"{self.name}: no readable image among {count_text(len(places), 'row')}")
        found = {header.size for header in headers}
        channels = {header.channels for header in headers}
        kind = common_kind({header.kind for header in headers}, channels)
        return Survey(found.pop() if len(found) == 1 else None, channels.pop() if len(channels) == 1 else 3, kind)

    def headers(self, progress: Progress | None = None) -> Iterator[tuple[str, Header | str]]:
        """The name and header of each image, or the reason why it has none."""
        for name, part in self._parts.items():
            for row in range(len(part)):
                yield f"{name}/{row:06d}", self._header(part[row][self._image], f"{self.name}: {name}/{row:06d}")
                if progress is not None and row % 256 == 255:
                    progress(row + 1, len(part), f"surveying {self.name} (images)")

    @property
    def _lengths(self) -> list[int]:
        """Number of rows of each part."""
        return [len(part) for part in self._parts.values()]

    def _header_at(self, index: int) -> Header | str:
        """The header of image `index`, or the reason why it has none."""
        name, row = self._place_of(index)
        return self._header(self._parts[name][row][self._image], f"{self.name}: {name}/{row:06d}")

    def _place_of(self, index: int) -> tuple[str, int]:
        """The part of image `index`, and its row there."""
        for name, length in zip(self._parts, self._lengths, strict=True):
            if index < length:
                return name, index
            index -= length
        raise IndexError(index)

    def _header(self, value: Any, where: str) -> Header | str:
        try:
            content = _content(value)
        except DataError as error:
            return str(error)
        return header_or_reason(content, MEGAPIXELS, where)

    def listing(self) -> Listing:
        """The rows of all parts."""
        names = [f"{name}/{row:06d}" for name, part in self._parts.items() for row in range(len(part))]
        numbers = [PART_NAMES[name] for name in self._parts]
        parts = np.repeat(np.array(numbers, np.int8), self._lengths)
        label = self._wanted[1] or next(iter(self._classes), None)
        kept = dict.fromkeys([*self._classes, *([] if label is None else [label])])
        columns = {name: self._column(name) for name in kept}
        return Listing(names, columns, label, parts if len(set(numbers)) > 1 else None)

    def record(self, index: int, near: tuple[int, ...]) -> Record:
        """One image, decoded at the size needed."""
        name, row = self._place_of(index)
        content = _content(self._parts[name][row][self._image])
        pixels, header = decode(content, near, MEGAPIXELS)
        return Record(pixels, header.size, content_digest(content), header, len(header.pages) - 1)

    def _column(self, name: str) -> Column:
        """The values of a column in all parts; they are missing in parts without it."""
        features = next(iter(self._parts.values())).features
        if name not in features:
            raise DataError(f"{self.name}: {unknown_message('column', name, features)}")
        values: list[Any] = []
        for part_name, part in self._parts.items():
            own = part.features.get(name)
            if own is not None and getattr(own, "names", None) != getattr(features[name], "names", None):
                raise DataError(
                    f"{self.name}: the column {name} has other classes in the part {part_name}. Make them equal with "
                    "align_labels_with_mapping"
                )
            values += [None] * len(part) if own is None else list(part[name])
        if all(value is None or type(value) is int for value in values):
            numbers = np.array([-1 if value is None else value for value in values], np.int64)
            return Column(numbers, self._classes.get(name))
        if all(value is None or isinstance(value, str | bool) for value in values):
            return numbered(["" if value is None else str(value) for value in values])
        raise DataError(f"{self.name}: the column {name} must contain classes, strings or integers")

    @cached_property
    def _parts(self) -> dict[str, Any]:
        """The official parts, with undecoded images."""
        try:
            datasets = importlib.import_module("datasets")
        except ImportError as error:
            raise ConfigError(
                "data.source hugging-face needs an extra. Run pip install 'convae[hugging-face]'"
            ) from error
        try:
            found = self._loaded(datasets)
        except Exception as error:  # The Hub, the network and the files can raise anything.
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise DataError(f"{self.name}: cannot be loaded ({reason})") from error
        parts = {name: part for name, part in found.items() if name in PART_NAMES}
        if not parts and len(found) == 1:
            parts = {"train": next(iter(found.values()))}
        if not parts:
            raise DataError(f"{self.name}: expected a split train, validation or test, got {', '.join(found)}")
        features = next(iter(parts.values())).features
        images = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
        wanted = self._wanted[0] or next(iter(images), None)
        if wanted is None:
            choice = ", ".join(features)
            raise DataError(f"{self.name}: no column of images. Set the option image to one of {choice}")
        if wanted not in features:
            raise DataError(f"{self.name}: {unknown_message('column', wanted, features)}")
        self._image = wanted
        self._classes = {
            name: tuple(feature.names) for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)
        }
        undecoded = datasets.Image(decode=False)
        try:
            return {name: part.cast_column(wanted, undecoded) for name, part in sorted(parts.items(), key=_place)}
        except Exception as error:  # The libraries can raise anything.
            raise DataError(f"{self.name}: column {wanted} must hold images, or contents or paths of files") from error

    def _loaded(self, datasets: Any) -> Mapping[str, Any]:
        """The parts, from the Hub or the disk."""
        path, config, revision = self._given
        folder = local_path(path)
        if any((folder / name).is_file() for name in _SAVED):
            saved = datasets.load_from_disk(str(folder))
            return saved if isinstance(saved, Mapping) else {"train": saved}
        local = str(folder) if folder.exists() else path
        where = datasets.DownloadConfig(local_files_only=not self._data_dirs.download)
        found: Mapping[str, Any] = datasets.load_dataset(local, config, revision=revision, download_config=where)
        return found


def _place(item: tuple[str, Any]) -> int:
    return PART_NAMES[item[0]]


def _content(value: dict[str, Any] | None) -> Path | bytes:
    """The file of an image, or its content."""
    if value is None or (value.get("bytes") is None and not value.get("path")):
        raise DataError("no image in this row")
    content: bytes | None = value.get("bytes")
    return Path(value["path"]) if content is None else content
