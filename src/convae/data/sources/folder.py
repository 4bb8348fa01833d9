"""A folder of images, nested, of any sizes and modes."""

from __future__ import annotations

import errno
import os
import re
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar, NamedTuple

from convae.core.errors import DataError
from convae.core.files import read_bytes, read_head
from convae.data.io.retries import retry, transient_error
from convae.data.io.tables import PATHS, SEPARATORS
from convae.data.sources.base import Listing
from convae.data.sources.base.image_files import SUFFIXES, ImageFiles
from convae.data.sources.base.layout import Layout, read_annotations, read_layout

_LEFT_OUT = frozenset({"__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"})
"""System folders next to images, some of which contain pictures."""
_IMAGE_LIKE = frozenset(
    {".heic", ".heif", ".jxl", ".svg", ".psd", ".dcm", ".nii", ".czi", ".nd2", ".lif", ".svs", ".npy", ".mat"}
    | {".raw", ".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2", ".exr", ".hdr", ".mp4", ".avi", ".mov", ".zip"}
)
"""Suffixes of unsupported files that may be meant as images."""
_LARGEST = 1 << 26
"""Size limit of an annotation file, in bytes."""


class _Found(NamedTuple):
    """Result of the scan of the folders: sorted names relative to the root."""

    images: list[str]
    unreadable: list[tuple[str, str]]
    tables: list[str]
    others: Counter[str]

    def add(self, base: str, name: str) -> None:
        """Adds a file by its suffix; `base` is the last part of `name`."""
        ending = os.path.splitext(base)[1].lower()  # noqa: PTH122  # a third of a Path's time
        if ending in SUFFIXES:
            self.images.append(name)
            return
        self.others[ending or "without a suffix"] += 1
        if base.lower().endswith("annotations.txt"):
            self.tables.append(name)


class Folder(ImageFiles):
    """The image files in a folder and its subfolders, sorted by path, without hidden files and folders.

    Folders that contain a single folder are skipped. Folders with names such as `train`, `val` and `test` are the
    official parts. The folders below are the classes, except names such as `images`. Images outside of class folders
    have no label, unless a file `*annotations.txt` (`name<TAB>class`) has one. A folder that symbolic links reach twice
    counts once.

    Args:
        data_dirs: not used.
        path: the folder.
        megapixels: size limit of an image in millions of pixels; larger ones are skipped.
        range: the values mapped to 0 and 1, such as [0, 4095]; by default the range of the type of each file. A file of
            a narrower type keeps the range of its type.
        pages: treatment of multi-page files, such as stacks and animations: only the `first` page, `all` pages as
            images, or one image with the pages as `volume` or `channels`.
    """

    _scanned: ClassVar = True

    @property
    def name(self) -> str:
        """`folder` and the last part of the path."""
        return f"folder {self._root.resolve().name}"

    def fingerprint(self) -> str:
        """That of image files, with the annotation files."""
        return " ".join([super().fingerprint(), *(self._stamp(name) for name in self._found.tables)])

    def listing(self) -> Listing:
        """The files, with parts and classes from folders and annotation files."""
        layout = self._layout
        return self._expanded(
            {} if layout.classes is None else {"class": layout.classes},
            None if layout.classes is None else "class",
            layout.parts,
            self._found.unreadable,
            (*layout.notes, *self._notes(layout)),
        )

    @property
    def _paths(self) -> Sequence[str]:
        return self._found.images

    @cached_property
    def _layout(self) -> Layout:
        tables: dict[str, dict[str, str]] = {}
        for name in self._found.tables:
            try:
                content = read_bytes(self._root / name, _LARGEST).decode("utf-8-sig", "surrogateescape")
            except OSError as error:
                raise DataError(f"{self._root / name}: cannot be read ({error.strerror or error})") from error
            tables.setdefault(name.rpartition("/")[0], {}).update(read_annotations(content))
        return read_layout(self._paths, tables)

    def _notes(self, layout: Layout) -> list[str]:
        """Notes on files that were not read."""
        notes = []
        missed = {ending: count for ending, count in sorted(self._found.others.items()) if ending in _IMAGE_LIKE}
        if missed:
            listed = ", ".join(f"{count:,} {ending}" for ending, count in missed.items())
            notes.append(f"unsupported files are ignored: {listed}")
        if layout.classes is None:
            tables = [name for name in os.listdir(self._root) if name.lower().endswith((".csv", ".tsv"))]  # noqa: PTH208  # names, no paths
            tables = [name for name in sorted(tables) if self._lists(name)]
            notes += [f"{name} lists images; to use its columns, pass {self._root / name} as source" for name in tables]
        return notes

    def _lists(self, name: str) -> bool:
        """Whether a table's header has a column of paths."""
        header = read_head(self._root / name).decode("utf-8-sig", "replace").partition("\n")[0]
        words = re.split(f"[{SEPARATORS}]", header.lower().replace('"', ""))
        return any(word.strip() in PATHS for word in words)

    @cached_property
    def _found(self) -> _Found:
        found = _Found([], [], [], Counter())
        visited: set[tuple[int, int]] = set()
        links = [""]
        # Real folders come before links, so that a folder is found under its own name.
        while links:
            pending = [links.pop(0)]
            while pending:
                inner, linked = self._scan(pending.pop(), visited, found)
                pending += inner
                links += linked
        if not found.images:
            kinds = ", ".join(f"{count:,} {ending}" for ending, count in found.others.most_common(3))
            held = f"; it contains {kinds}" if kinds else ""
            if found.others[".tar"]:
                held += f". For the images in tar archives, use data.source={{tar: {{path: {self._root}}}}}"
            raise DataError(f"{self._root}: contains no images ({', '.join(sorted(SUFFIXES))}){held}")
        return _Found(sorted(found.images), found.unreadable, sorted(found.tables), found.others)

    def _scan(self, folder: str, visited: set[tuple[int, int]], found: _Found) -> tuple[list[str], list[str]]:
        """Adds the files of one folder to `found`; returns its subfolders, real and linked."""
        stat, listed = self._list_folder(folder, found)
        if stat is None or (stat.st_dev, stat.st_ino) in visited:
            return [], []
        visited.add((stat.st_dev, stat.st_ino))
        inner: list[str] = []
        linked: list[str] = []
        for entry, is_folder in listed:
            name = f"{folder}/{entry.name}" if folder else entry.name
            if entry.name.startswith(".") or (is_folder and entry.name.lower() in _LEFT_OUT):
                continue
            if is_folder:
                (linked if entry.is_symlink() else inner).append(name)
            else:
                found.add(entry.name, name)
        return inner, linked

    def _list_folder(
        self, folder: str, found: _Found
    ) -> tuple[os.stat_result | None, list[tuple[os.DirEntry[str], bool]]]:
        """Status and entries of a folder, and which are folders; None if a subfolder is not readable."""

        def entries() -> tuple[os.stat_result, list[tuple[os.DirEntry[str], bool]]]:
            with os.scandir(self._root / folder) as held:
                listed = sorted(held, key=lambda entry: entry.name)
            return (self._root / folder).stat(), [(entry, _is_folder(entry)) for entry in listed]

        try:
            return retry(entries) if folder else entries()
        except OSError as error:
            if not folder:
                raise DataError(f"{self._root}: cannot be read ({error.strerror or error})") from error
            if not isinstance(error, PermissionError):
                raise transient_error(str(self._root / folder), error) from error
            found.unreadable.append((folder, f"folder cannot be read ({error.strerror})"))
            return None, []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one.

    Raises:
        OSError: transient failure.
    """
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.EACCES}:  # such as a link to itself
            return False
        raise
