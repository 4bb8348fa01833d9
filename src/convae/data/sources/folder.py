"""A folder of images: nested, of any sizes and modes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from convae.core.errors import DataError
from convae.data.image_files import SUFFIXES, ImageFiles, Megapixels
from convae.data.images import MEGAPIXELS
from convae.data.labels import PART_NAMES, folders, numbered, part_numbers
from convae.data.places import Places
from convae.data.sources.base import Listing


class Folder(ImageFiles):
    """The image files in a folder and the folders in it, sorted by path; hidden files and folders are left out.

    Where every image lies in one of at least two folders of the first level, and these are called `train`, `test`
    and so on, they are the official parts, and the folders in them the classes. Otherwise the folders of the first
    level are the classes. A single folder on a level says nothing. A folder that is reached twice, through symbolic
    links, counts once.

    Args:
        places: not used.
        path: the folder.
        megapixels: the most pixels that an image may have, in millions; larger ones are skipped.
    """

    def __init__(self, places: Places, *, path: Path, megapixels: Megapixels = MEGAPIXELS) -> None:
        super().__init__(places, path, megapixels)
        self._unreadable: list[tuple[str, str]] = []

    @property
    def name(self) -> str:
        """`folder` and the last part of the path."""
        return f"folder {self._root.resolve().name}"

    def listing(self) -> Listing:
        """The files, with the parts and classes that folders tell."""
        parts, classes = None, folders(self._paths, 0)
        if classes is not None and {name.lower() for name in classes} <= set(PART_NAMES):
            parts, classes = classes, folders(self._paths, 1)
        columns = {} if classes is None else {"class": numbered(classes)}
        return Listing(
            self._paths,
            columns,
            "class" if columns else None,
            None if parts is None else part_numbers(parts, str(self._root)),
            self._unreadable,
            self._stamps,
        )

    @cached_property
    def _paths(self) -> Sequence[str]:
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
            if _is_folder(entry):
                (linked if entry.is_symlink() else inner).append(name)
            elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:  # noqa: PTH122  # a third of a Path's time
                names.append(name)
        return inner, linked


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # such as a link to itself
        return False
