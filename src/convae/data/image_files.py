"""Images in files of their own: listed by their paths, surveyed by their headers, decoded no larger than needed."""

from __future__ import annotations

import hashlib
import os
import warnings
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated

from pydantic import Field

from convae.core.errors import DataError
from convae.core.progress import Progress
from convae.data.identity import content_digest
from convae.data.images import MEGAPIXELS, is_grey, load_with_size, opened, oriented_size
from convae.data.places import Places
from convae.data.sources.base import Record, Source, Survey

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"})

# Pillow itself refuses twice its own limit, whatever is asked for here.
Megapixels = Annotated[float, Field(gt=0, le=178)]


class ImageFiles(Source):
    """Image files below a folder; an entry says which.

    Args:
        places: not used.
        root: the folder.
        megapixels: the most pixels that an image may have, in millions; larger ones are skipped.
    """

    def __init__(self, places: Places, root: Path, megapixels: float = MEGAPIXELS) -> None:
        super().__init__(places)
        self._root = root.expanduser()
        self._megapixels = megapixels

    @property
    @abstractmethod
    def _paths(self) -> Sequence[str]:
        """Paths of the images within the root, with `/` between their parts, in the source's order.

        Raises:
            DataError: there are none.
        """

    def fingerprint(self) -> str:
        """Place, and path, size, times of change and permissions of every file."""
        total = hashlib.sha256(os.fsencode(self.lineage()))
        for name, stamp in zip(self._paths, self._stamps, strict=True):
            total.update(os.fsencode(f"{name}\0{stamp}\0"))
        return total.hexdigest()

    def lineage(self) -> str:
        """The folder and the limit."""
        return f"{os.fsencode(self._root.resolve())!r} {self._megapixels:g}"

    def survey(self, progress: Progress | None = None, *, sizes: bool = True) -> Survey:
        """From the headers of files; those that cannot be read have no say."""
        with warnings.catch_warnings():
            # As in reading: what Pillow would warn of either keeps an image out, with a reason, or does not matter.
            warnings.simplefilter("ignore")
            return self._surveyed(progress, sizes)

    def record(self, index: int, near: tuple[int, ...]) -> Record:
        """One image, decoded no larger than needed."""
        path = self._root / self._paths[index]
        return Record(*load_with_size(path, near, self._megapixels), content_digest(path))

    def _surveyed(self, progress: Progress | None, wanted: bool) -> Survey:
        sizes: set[tuple[int, ...]] = set()
        grey = deep = True
        unread = ""
        for done, name in enumerate(self._paths, start=1):
            try:
                with opened(self._root / name, self._megapixels) as image:
                    sizes.add(oriented_size(image))
                    grey = grey and is_grey(image)
                    deep = deep and image.mode == "I;16"
            except DataError as error:
                unread = unread or f"{name} ({error})"
                continue
            if not grey and (len(sizes) > 1 or not wanted):
                break
            if progress is not None and done % 256 == 0:
                progress(done, len(self._paths), f"surveying {self.name} (images)")
        if not sizes:
            raise DataError(f"{self.name}: none of the {len(self._paths)} images can be used; the first is {unread}")
        size = sizes.pop() if wanted and len(sizes) == 1 else None
        return Survey(size, 1 if grey else 3, "uint16" if deep and grey else "uint8")

    @cached_property
    def _stamps(self) -> list[str]:
        """Size, times of change and permissions of every file, or the number of the error that hides them."""
        root = os.fspath(self._root)
        return [_stamp(os.path.join(root, name)) for name in self._paths]  # noqa: PTH118  # a Path takes twice as long


def _stamp(path: str) -> str:
    try:
        stat = os.stat(path)  # noqa: PTH116  # as above
    except OSError as error:
        return f"{error.errno}"
    # Programs can set the time of the last change back, but not that of the last change of file or attributes.
    return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_mode}"
