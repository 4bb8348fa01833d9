"""Images in tar archives, which are read in place: shards of WebDataset, or packed folders."""

from __future__ import annotations

import json
import os
import re
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from convae.core.errors import DataError
from convae.core.names import count_text, unknown_message
from convae.data.data_dirs import DataDirs
from convae.data.images import headers, tiff
from convae.data.images.ranges import ValueRange
from convae.data.images.reading import MEGAPIXELS
from convae.data.io.patterns import expand
from convae.data.io.retries import retry, transient_error
from convae.data.sources.base import Column, Listing
from convae.data.sources.base.image_files import SUFFIXES, ImageFiles, Megapixels, Pages
from convae.data.sources.base.labels import PART_NAMES, numbered
from convae.data.sources.base.layout import read_layout

_LABEL = "cls"
"""Ending of files with the class, by convention of WebDataset."""
_LARGEST = 1 << 20
"""Size limit of a file with a label, in bytes."""
_COMPRESSED = {b"\x1f\x8b": "gunzip", b"BZ": "bunzip2", b"\xfd7": "unxz", b"\x28\xb5": "unzstd"}
"""Programs that decompress files with these first bytes."""


class _Image(NamedTuple):
    """An image in an archive: the index of the archive, and the bytes of the file within it."""

    archive: int
    name: str
    offset: int
    size: int


class _Found(NamedTuple):
    """Images of all archives in order, with the text of each label; `are_samples` if any have files beside them."""

    images: list[_Image]
    labels: list[str]
    are_samples: bool


class Tar(ImageFiles):
    """The images in uncompressed tar archives, read in place: shards of WebDataset, or packed folders.

    In a shard, files with the same name up to the first dot are one sample, such as `01.jpg`, `01.cls` and `01.json`.
    Words such as `train` and `val` in the names of archives or their folders (`train-0000.tar`) are the official parts.
    In archives that hold only images, folders are parts and classes, as in a folder of images.

    Args:
        data_dirs: not used.
        path: an archive, a folder of archives, or a pattern such as `shards/train-{0000..0146}.tar` or `shards/*.tar`.
        image: ending of the images, such as `jpg` or `rgb.png`; needed if samples have several images.
        label: ending of the file with the class, a number or a name, or field of the file `json`; by default `cls`.
        megapixels: size limit of an image in millions of pixels; larger ones are skipped.
        range: the values mapped to 0 and 1, such as [0, 4095]; by default the range of the type of each file. A file of
            a narrower type keeps the range of its type.
        pages: treatment of multi-page files, such as stacks and animations: only the `first` page, `all` pages as
            images, or one image with the pages as `volume` or `channels`.
    """

    def __init__(
        self,
        data_dirs: DataDirs,
        *,
        path: Path,
        image: str | None = None,
        label: str | None = None,
        megapixels: Megapixels = MEGAPIXELS,
        range: ValueRange | None = None,
        pages: Pages = "first",
    ) -> None:
        super().__init__(data_dirs, path=path, megapixels=megapixels, range=range, pages=pages)
        self._image, self._label = image, label

    @property
    def name(self) -> str:
        """`tar` and the last part of the path."""
        return f"tar {self._path.name}"

    def fingerprint(self) -> str:
        """Location, size, times of change and permissions of every archive."""
        return f"{super().fingerprint()} {headers.has_tifffile()}"

    def _stamped_files(self) -> Iterable[tuple[str, str]]:
        return zip(map(str, self._archives), self._archive_stamps, strict=True)

    def lineage(self) -> str:
        """The path and the options."""
        # Not that of image files, for which the archives would have to be read.
        options = f"{self._megapixels:g} {self._range} {self._pages} {self._image} {self._label}"
        return f"{os.fsencode(self._path.resolve())!r} {options}"

    def listing(self) -> Listing:
        """The images, with labels and parts."""
        found, notes = self._found, list[str]()
        column = _column(found.labels)
        parts = self._parts()
        if not found.are_samples:
            layout = read_layout([image.name for image in found.images], {})
            column = layout.classes
            parts = layout.parts if parts is None else parts
            notes += layout.notes
        columns = {} if column is None else {"class": column}
        return self._expanded(columns, None if column is None else "class", parts, notes=notes)

    def _parts(self) -> NDArray[np.int8] | None:
        """The official parts by the names of the archives; archives without one are of the training part."""
        of_archives = [_part(archive.relative_to(self._root).as_posix()) for archive in self._archives]
        if len(set(of_archives) - {None}) < 2:
            return None
        return np.array([of_archives[image.archive] or 0 for image in self._found.images], np.int8)

    def _content(self, row: int) -> bytes:
        image = self._found.images[row]
        path = self._archives[image.archive]

        def read() -> bytes:
            with path.open("rb") as file:
                file.seek(image.offset)
                return file.read(image.size)

        try:
            return retry(read)
        except OSError as error:
            raise transient_error(str(path), error) from error

    @property
    def _root(self) -> Path:
        """Folder of the archives."""
        return self._path if self._path.is_dir() else self._path.parent

    @cached_property
    def _archives(self) -> list[Path]:
        """The archives, in order of their paths."""
        if self._path.is_dir():
            found = sorted(path for path in self._path.rglob("*.tar") if not path.name.startswith("."))
        else:
            found = expand(self._path)
        if not found:
            raise DataError(f"{self._path}: no tar archive")
        missing = [path for path in found if not path.is_file()]
        if missing:
            raise DataError(
                f"{missing[0]}: no such file ({len(missing)} of {count_text(len(found), 'archive')} missing)"
            )
        return found

    @cached_property
    def _archive_stamps(self) -> list[str]:
        return [self._stamp(archive.relative_to(self._root).as_posix()) for archive in self._archives]

    @cached_property
    def _stamps(self) -> list[str]:
        stamps, images = self._archive_stamps, self._found.images
        # Installing tifffile changes what is read of these.
        more = {name: f" {headers.has_tifffile()}" for name in self._paths if name.lower().endswith(tiff.SUFFIXES)}
        return [
            f"{stamps[image.archive]} {image.offset} {image.size}{more.get(name, '')}"
            for image, name in zip(images, self._paths, strict=True)
        ]

    @cached_property
    def _paths(self) -> Sequence[str]:
        names = [archive.relative_to(self._root).with_suffix("").as_posix() for archive in self._archives]
        return [f"{names[image.archive]}/{image.name}" for image in self._found.images]

    @cached_property
    def _found(self) -> _Found:
        images, labels, are_samples = list[_Image](), list[str](), False
        fields: set[str] = set()
        for number, archive in enumerate(self._archives):
            own, of_samples = self._scan(number, archive, fields)
            keys = [_key(name) for name in own]
            if not of_samples.keys().isdisjoint(keys):
                are_samples = True
                _check_single(archive, keys, own)
            images += own.values()
            labels += [of_samples.get(key, "") for key in keys]
        if not images:
            raise DataError(f"{self.name}: contains no images{'' if self._image is None else f' .{self._image}'}")
        if self._label is not None and not any(labels):
            raise DataError(f"{self.name}: {unknown_message('ending or field of json', self._label, sorted(fields))}")
        return _Found(images, labels, are_samples)

    def _scan(self, number: int, archive: Path, fields: set[str]) -> tuple[dict[str, _Image], dict[str, str]]:
        """The images of an archive by name, and the label of each sample; adds the names of labels to `fields`."""
        images: dict[str, _Image] = {}
        labels: dict[str, str] = {}
        for member, content in _members(archive, {self._label or _LABEL, "json"}):
            key, ending = _key(member.name), _ending(member.name)
            if member.name.lower().endswith(tuple(SUFFIXES)):
                if self._image in {None, ending}:  # As in unpacking, the last of several files with one name counts.
                    name = member.name.removeprefix("./")
                    images[name] = _Image(number, name, member.offset_data, member.size)
                continue
            fields.add(ending)
            labels.setdefault(key, "")
            where = f"{archive}: {member.name}"
            if content is not None and ending == (self._label or _LABEL):
                labels[key] = content.decode("utf-8", "replace").strip()
            elif content is not None and self._label is not None:
                held = _fields(content, where)
                fields |= set(held)
                labels[key] = labels[key] or _text(held.get(self._label), f"{where}: {self._label}")
        return images, labels


def _members(archive: Path, read: set[str]) -> Iterator[tuple[tarfile.TarInfo, bytes | None]]:
    """The files of an archive; with their content if they have one of these endings.

    Raises:
        DataError: unreadable, damaged or compressed.
    """
    try:
        with archive.open("rb") as source, tarfile.open(fileobj=source, mode="r:") as opened:
            for member in opened:
                opened.members = []  # type: ignore[attr-defined]  # they would fill the memory
                is_hidden = any(part.startswith(".") and part != "." for part in member.name.split("/"))
                if not member.isreg() or is_hidden:
                    continue
                content = None
                if _ending(member.name) in read and member.size <= _LARGEST:
                    file = opened.extractfile(member)
                    content = b"" if file is None else file.read()
                yield member, content
            source.seek(opened.offset)
            if source.read(tarfile.BLOCKSIZE).strip(b"\0"):  # where tarfile ends as after the last file
                raise tarfile.ReadError(f"no file begins at byte {opened.offset:,}")
    except (tarfile.TarError, EOFError) as error:
        with archive.open("rb") as file:
            program = _COMPRESSED.get(file.read(2))
        if program is not None:
            raise DataError(f"{archive}: compressed. Images are read in place: run {program} first") from error
        raise DataError(f"{archive}: damaged archive ({error})") from error
    except OSError as error:
        raise DataError(f"{archive}: cannot be read ({error.strerror or error})") from error


def _key(name: str) -> str:
    """The name of the sample of a file: up to the first dot after the folders."""
    folder, slash, base = name.removeprefix("./").rpartition("/")
    return f"{folder}{slash}{base.partition('.')[0]}"


def _ending(name: str) -> str:
    """The rest of the name of a file, after the first dot."""
    return name.rpartition("/")[2].partition(".")[2].lower()


def _check_single(archive: Path, keys: Sequence[str], names: Iterable[str]) -> None:
    """Checks that each sample has one image.

    Raises:
        DataError: a sample has several.
    """
    if len(set(keys)) < len(keys):
        endings = sorted({_ending(name) for name in names})
        raise DataError(
            f"{archive}: samples have several images, with the endings {', '.join(endings[:8])}. Set image to one"
        )


def _fields(content: bytes, where: str) -> dict[str, object]:
    """The fields of a JSON file."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not JSON ({error})") from error
    return found if isinstance(found, dict) else {}


def _text(value: object, where: str) -> str:
    """A label as text."""
    if value is None or isinstance(value, str | int):
        return "" if value is None else str(value)
    raise DataError(f"{where} must be a string or an integer")


def _column(texts: Sequence[str]) -> Column | None:
    """The labels: class numbers if all are, otherwise classes by name."""
    if not any(texts):
        return None
    if all(re.fullmatch(r"-?\d{1,9}|", text) for text in texts):
        return Column(np.array([max(int(text or -1), -1) for text in texts], np.int64))
    return numbered(texts)


def _part(name: str) -> int | None:
    """The part that the words of a name tell, if it is one."""
    found = {PART_NAMES[word] for word in re.split("[^a-z]+", name.lower()) if word in PART_NAMES}
    return found.pop() if len(found) == 1 else None
