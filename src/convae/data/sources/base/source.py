"""Base class of data sources, and the types of their results."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convae.core.progress import Progress
from convae.data.data_dirs import DataDirs
from convae.data.images.headers import Header
from convae.data.images.pixels import Kind

_ENTRIES = "convae.data.sources"
PARTS: tuple[Literal["train", "validation", "test"], ...] = ("train", "validation", "test")
"""The parts of a data set; `Listing.parts` are indices into it."""


@dataclass(frozen=True)
class Survey:
    """Common properties of the images of a source.

    Attributes:
        size: spatial sizes, height first; None if the images differ in size.
        channels: 1 if all are gray, otherwise the number needed for every image; None if unknown.
        kind: type that can hold the values of every image.
    """

    size: tuple[int, ...] | None
    channels: int | None
    kind: Kind = "uint8"


@dataclass(frozen=True)
class Column:
    """A categorical property of the images, such as the class.

    Attributes:
        values: (images,) class numbers, -1 if missing.
        classes: names of the classes; None without names.
    """

    values: NDArray[np.int64]
    classes: tuple[str, ...] | None = None

    def __getitem__(self, rows: Any) -> Column:
        """The column for some of the images."""
        return Column(self.values[rows], self.classes)


@dataclass(frozen=True)
class Listing:
    """The images of a source, in order.

    Attributes:
        names: a name for each image, such as its path within a folder.
        columns: properties of the images by name.
        label: column that is the label by default.
        parts: (images,) official parts as indices into `PARTS`; None without an official split.
        skipped: (name, reason) of files that could not be listed.
        stamps: a string per image that changes whenever the image does; None if images only change together.
        notes: notes on the images for the user, one sentence each.
    """

    names: Sequence[str]
    columns: Mapping[str, Column] = field(default_factory=dict)
    label: str | None = None
    parts: NDArray[np.int8] | None = None
    skipped: Sequence[tuple[str, str]] = ()
    stamps: Sequence[str] | None = None
    notes: Sequence[str] = ()


class Record(NamedTuple):
    """One image as read by a source.

    Attributes:
        pixels: a Pillow image, or values (*sizes, channels) of any type.
        size: its original spatial sizes, height first.
        identity: digest of its content, independent of reduced decoding (`content_digest`); None for the
            digest of the pixels.
        header: header of its file, if there is one.
        left_out: number of unused pages of its file.
        mask: (*sizes,) weight of each pixel, from 0 (missing) to 1; None without masks.
    """

    pixels: NDArray[Any] | Image.Image
    size: tuple[int, ...]
    identity: bytes | None = None
    header: Header | None = None
    left_out: int = 0
    mask: NDArray[Any] | None = None


class Source(ABC):
    """Base class of data sources. The constructor is cheap; methods access the files.

    The first argument is the folders of data sets; keyword-only arguments are the configuration.

    Attributes:
        reading_options: names of the options on how values are read. Those of the training data also apply to other
            data of the same kind.
        holds_image_files: whether the images are files, such as PNG; all such sources are of one kind.
        has_masks: whether records have a mask of observed pixels.
    """

    reading_options: ClassVar[frozenset[str]] = frozenset()
    holds_image_files: ClassVar[bool] = False
    has_masks: bool = False

    def __init__(self, data_dirs: DataDirs) -> None:
        self._data_dirs = data_dirs

    @property
    def name(self) -> str:
        """The name in messages and reports: the registered name, or the class name in other packages."""
        package, _, file = type(self).__module__.rpartition(".")
        return file.replace("_", "-") if package == _ENTRIES else type(self).__name__

    @property
    def value_range(self) -> tuple[float, float] | None:
        """The values mapped to 0 and 1; None for the range of the type."""
        return None

    def headers(self, progress: Progress | None = None) -> Iterator[tuple[str, Header | str]]:
        """The name and header of each image, or the reason why it has none; empty if images are not separate files."""
        del progress
        return iter(())

    def prepare(self, progress: Progress | None = None) -> None:
        """Makes the data available; called first, and may download.

        Raises:
            DataError: the data is missing and cannot be downloaded.
        """
        del progress

    @abstractmethod
    def fingerprint(self) -> str:
        """A string that changes whenever the images or labels do. It must be fast, since every start calls it.

        Raises:
            DataError: the data is missing.
        """

    def lineage(self) -> str:
        """A string that stays equal when images are added, removed or changed, so that decoded images are reused."""
        return self.fingerprint()

    @abstractmethod
    def survey(self, progress: Progress | None = None, *, sizes: bool = True) -> Survey:
        """Common properties of the images, from headers if possible.

        Args:
            progress: called with the number of surveyed images.
            sizes: whether the size is needed; without it, fewer images need to be read.

        Raises:
            DataError: the data is damaged, or contains no images.
        """

    @abstractmethod
    def listing(self) -> Listing:
        """All images; called once, before the first `record`.

        Raises:
            DataError: the data is damaged, or contains no images.
        """

    @abstractmethod
    def record(self, index: int, near: tuple[int, ...]) -> Record:
        """Reads image `index` of the listing; called from several threads.

        Args:
            index: position in the listing.
            near: the spatial sizes that the image will be resized to. A source may return a smaller image, as long as
                it is somewhat larger than this along each axis.

        Raises:
            DataError: the image is unreadable; it is skipped with the message as reason.
        """


BYTES = 16
"""Length of a digest."""


def content_digest(content: Path | bytes | NDArray[Any] | Image.Image) -> bytes:
    """BLAKE2b digest of a file, of bytes, or of the type, shape and values of an array.

    Raises:
        OSError: the file cannot be read.
    """
    if isinstance(content, Path):
        with content.open("rb") as file:
            return hashlib.file_digest(file, _hasher).digest()
    digest = _hasher()
    if isinstance(content, bytes):
        digest.update(content)
        return digest.digest()
    values = np.ascontiguousarray(content)
    digest.update(f"{values.dtype.str} {values.shape} ".encode())
    digest.update(values.data)
    return digest.digest()


def _hasher() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=BYTES)
