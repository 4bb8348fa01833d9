"""What a data set offers: a list of images with names and labels, and a way to read each one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convae.core.progress import Progress

PARTS = ("train", "validation", "test")
"""The parts of a data set; `Listing.parts` counts in this order."""

Pixels = NDArray[np.uint8]
"""(*sizes, channels): an image as it is stored, channels last."""


@dataclass(frozen=True)
class Survey:
    """What all images of a source have in common.

    Attributes:
        size: spatial sizes, height first, or None when the images have several.
        channels: 1 when all are grey, otherwise those needed to show every image; None when there is no saying.
    """

    size: tuple[int, ...] | None
    channels: int | None


@dataclass(frozen=True)
class Listing:
    """The images of a source, in the source's order.

    Attributes:
        names: a name for each image, such as its path within a folder.
        labels: (images,) class numbers, -1 where one is missing; None without labels.
        classes: the name of each class, where there are names.
        parts: (images,) official part of each image, counted as in `PARTS`; None where there is no official split.
        skipped: (name, reason) of what could not even be listed.
    """

    names: Sequence[str]
    labels: NDArray[np.int64] | None = None
    classes: tuple[str, ...] | None = None
    parts: NDArray[np.int8] | None = None
    skipped: Sequence[tuple[str, str]] = ()


class Record(NamedTuple):
    """One image as a source reads it: its pixels, and the spatial sizes (height first) that it has there."""

    pixels: Pixels | Image.Image
    size: tuple[int, ...]


class Source(ABC):
    """One data set. Making one is cheap; files are only looked at when a method is called.

    The first argument of every source is the list of folders in which data sets are looked for; keyword-only
    arguments are the source's configuration.
    """

    def __init__(self, directories: Sequence[object]) -> None:
        del directories

    @property
    def name(self) -> str:
        """The name shown in messages and reports: the registry's."""
        return type(self).__module__.rpartition(".")[2].replace("_", "-")

    @abstractmethod
    def fingerprint(self) -> str:
        """A text that changes whenever the images or labels do; quick, because it is asked at every start.

        Raises:
            DataError: the data set is not there.
        """

    @abstractmethod
    def survey(self, progress: Progress | None = None) -> Survey:
        """What all images have in common, from headers alone where that is possible.

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
                as long as there remain at least twice as many along each axis.

        Raises:
            DataError: the image cannot be read; it is skipped and the message becomes the reason.
        """
