"""What a data set offers: a list of images with names and labels, and a way to read each one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convae.core.progress import Progress
from convae.data.data_dirs import DataDirs
from convae.data.headers import Header
from convae.data.pixels import Kind

_ENTRIES = "convae.data.sources"
PARTS: tuple[Literal["train", "validation", "test"], ...] = ("train", "validation", "test")
"""The parts of a data set; `Listing.parts` counts in this order."""


@dataclass(frozen=True)
class Survey:
    """What all images of a source have in common.

    Attributes:
        size: spatial sizes, height first, or None when the images have several.
        channels: 1 when all are gray, otherwise those needed to show every image; None when there is no saying.
        kind: the type that holds the values of every image.
    """

    size: tuple[int, ...] | None
    channels: int | None
    kind: Kind = "uint8"


@dataclass(frozen=True)
class Column:
    """One thing that is known of each image, such as its class.

    Attributes:
        values: (images,) class numbers, -1 where one is missing.
        classes: the name of each class, where there are names.
    """

    values: NDArray[np.int64]
    classes: tuple[str, ...] | None = None

    def __getitem__(self, rows: Any) -> Column:
        """The same of some of the images."""
        return Column(self.values[rows], self.classes)


@dataclass(frozen=True)
class Listing:
    """The images of a source, in the source's order.

    Attributes:
        names: a name for each image, such as its path within a folder.
        columns: what is known of the images, by name.
        label: the column that counts as the images' label unless another is asked for.
        parts: (images,) official part of each image, counted as in `PARTS`; None where there is no official split.
        skipped: (name, reason) of what could not even be listed.
        stamps: a text for each image that changes whenever the image does; None where only all can change together.
        notes: what a person should know of how the images were found, a sentence each.
    """

    names: Sequence[str]
    columns: Mapping[str, Column] = field(default_factory=dict)
    label: str | None = None
    parts: NDArray[np.int8] | None = None
    skipped: Sequence[tuple[str, str]] = ()
    stamps: Sequence[str] | None = None
    notes: Sequence[str] = ()


class Record(NamedTuple):
    """One image as a source reads it.

    Attributes:
        pixels: a Pillow image, or values (*sizes, channels) of any type.
        size: the spatial sizes (height first) that it has there.
        identity: digest of its content, which does not depend on what was asked for (`identity.content_digest`);
            None where that is the digest of the pixels.
        header: of its file, where there is one.
        left_out: further pages of its file that are no image of the source.
    """

    pixels: NDArray[Any] | Image.Image
    size: tuple[int, ...]
    identity: bytes | None = None
    header: Header | None = None
    left_out: int = 0


class Source(ABC):
    """One data set. Making one is cheap; files are only looked at when a method is called.

    The first argument of every source says where data sets lie; keyword-only arguments are the source's
    configuration.

    Attributes:
        reading_options: the options that say how values are read. What a model was trained with holds for other data
            of the same kind, too.
    """

    reading_options: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, data_dirs: DataDirs) -> None:
        self._data_dirs = data_dirs

    @property
    def name(self) -> str:
        """The name shown in messages and reports: the registry's, or the class's where another package defines it."""
        package, _, file = type(self).__module__.rpartition(".")
        return file.replace("_", "-") if package == _ENTRIES else type(self).__name__

    @property
    def value_range(self) -> tuple[float, float] | None:
        """The values that become 0 and 1, where they are not those of the values' type."""
        return None

    def headers(self, progress: Progress | None = None) -> Iterator[tuple[str, Header | str]]:
        """The name and header of each image, or why it has none; nothing where images are in no files of their own."""
        del progress
        return iter(())

    def prepare(self, progress: Progress | None = None) -> None:
        """Sees to it that the data set is there; called before anything else, and may download.

        Raises:
            DataError: the data set is not there and cannot be got.
        """
        del progress

    @abstractmethod
    def fingerprint(self) -> str:
        """A text that changes whenever the images or labels do; quick, because it is asked at every start.

        Raises:
            DataError: the data set is not there.
        """

    def lineage(self) -> str:
        """A text that stays when images come, go or change: what was decoded before is then taken over."""
        return self.fingerprint()

    @abstractmethod
    def survey(self, progress: Progress | None = None, *, sizes: bool = True) -> Survey:
        """What all images have in common, from headers alone where that is possible.

        Args:
            progress: told how many images were looked at.
            sizes: whether the size is asked for; without it, fewer images need to be looked at.

        Raises:
            DataError: the data set is damaged, or holds no images.
        """

    @abstractmethod
    def listing(self) -> Listing:
        """All images; asked once, before the first `record`.

        Raises:
            DataError: the data set is damaged, or holds no images.
        """

    @abstractmethod
    def record(self, index: int, near: tuple[int, ...]) -> Record:
        """Image `index` of the listing; called from several threads.

        Args:
            index: position in the listing.
            near: the spatial sizes that the image will be brought to. A source may return fewer pixels than it has,
                as long as there remain somewhat more along each axis.

        Raises:
            DataError: the image cannot be read; it is skipped and the message becomes the reason.
        """
