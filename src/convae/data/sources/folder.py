"""A folder of images: nested, of any sizes and modes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from convae.core.errors import DataError
from convae.core.progress import Progress
from convae.data.images import MEGAPIXELS, is_grey, load_with_size, opened, oriented_size
from convae.data.sources.base import Listing, Record, Source, Survey

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"})

# Pillow itself refuses twice its own limit, whatever is asked for here.
Megapixels = Annotated[float, Field(gt=0, le=178)]


class Folder(Source):
    """The image files in a folder and the folders in it, sorted by path; hidden files and folders are left out.

    Where every image lies in one of at least two folders of the first level, these folders are the classes; otherwise
    there are no labels. A folder that is reached twice, through symbolic links, counts once.

    Args:
        directories: not used.
        path: the folder.
        megapixels: the most pixels that an image may have, in millions; larger ones are skipped.
    """

    def __init__(self, directories: Sequence[Path], *, path: Path, megapixels: Megapixels = MEGAPIXELS) -> None:
        super().__init__(directories)
        self._root = path.expanduser()
        self._megapixels = megapixels
        self._unreadable: list[tuple[str, str]] = []

    @property
    def name(self) -> str:
        """`folder` and the last part of the path."""
        return f"folder {self._root.resolve().name}"

    def fingerprint(self) -> str:
        """Place, and path, size, time of change and permissions of every file."""
        total = hashlib.sha256(os.fsencode(self._root.resolve()))
        for name in self._names:
            try:
                stat = (self._root / name).stat()
                seen = f"{stat.st_size} {stat.st_mtime_ns} {stat.st_mode}"
            except OSError as error:
                seen = f"{error.errno}"
            total.update(os.fsencode(f"{name}\0{seen}\0"))
        return f"{total.hexdigest()} {self._megapixels:g}"

    def survey(self, progress: Progress | None = None) -> Survey:
        """From the headers of all files; those that cannot be read have no say."""
        sizes: set[tuple[int, ...]] = set()
        grey = True
        for done, name in enumerate(self._names, start=1):
            try:
                with opened(self._root / name, self._megapixels) as image:
                    sizes.add(oriented_size(image))
                    grey = grey and is_grey(image)
            except DataError:
                continue
            if not grey and len(sizes) > 1:
                break
            if progress is not None and done % 256 == 0:
                progress(done, len(self._names), f"surveying {self.name} (images)")
        return Survey(sizes.pop() if len(sizes) == 1 else None, 1 if grey else 3)

    def listing(self) -> Listing:
        """The files, and the first-level folders as classes."""
        tops = [name.split("/", 1)[0] if "/" in name else None for name in self._names]
        classes = sorted({top for top in tops if top is not None})
        if None in tops or len(classes) < 2:
            return Listing(self._names, skipped=self._unreadable)
        numbers = {top: number for number, top in enumerate(classes)}
        labels = np.array([numbers[str(top)] for top in tops], np.int64)
        return Listing(self._names, labels, tuple(classes), skipped=self._unreadable)

    def record(self, index: int, near: tuple[int, ...]) -> Record:
        """One image, decoded no larger than needed."""
        return Record(*load_with_size(self._root / self._names[index], near, self._megapixels))

    @cached_property
    def _names(self) -> list[str]:
        """Paths within the folder, with `/` between their parts, sorted."""
        names: list[str] = []
        visited: set[tuple[int, int]] = set()
        links = [""]
        # All real folders of a tree come before the links in it, so that a folder is found under its own name.
        while links:
            pending = [links.pop(0)]
            while pending:
                inner, linked = self._scan(pending.pop(), visited, names)
                pending += inner
                links += linked
        if not names:
            raise DataError(f"{self._root}: holds no images ({', '.join(sorted(SUFFIXES))})")
        return sorted(names)

    def _scan(self, folder: str, visited: set[tuple[int, int]], names: list[str]) -> tuple[list[str], list[str]]:
        """Adds the image files of one folder to `names`; gives the folders in it, real and linked."""
        try:
            stat = (self._root / folder).stat()
            if (stat.st_dev, stat.st_ino) in visited:
                return [], []
            visited.add((stat.st_dev, stat.st_ino))
            entries = sorted(os.scandir(self._root / folder), key=lambda entry: entry.name)
        except OSError as error:
            if not folder:
                raise DataError(f"{self._root}: cannot be read ({error.strerror or error})") from error
            self._unreadable.append((folder, f"folder cannot be read ({error.strerror or error})"))
            return [], []
        inner: list[str] = []
        linked: list[str] = []
        for entry in entries:
            name = f"{folder}/{entry.name}" if folder else entry.name
            if entry.name.startswith("."):
                continue
            if os.path.isdir(entry.path):  # noqa: PTH112  # unlike the entry's own, false for a link to itself
                (linked if entry.is_symlink() else inner).append(name)
            elif Path(entry.name).suffix.lower() in SUFFIXES:
                names.append(name)
        return inner, linked
