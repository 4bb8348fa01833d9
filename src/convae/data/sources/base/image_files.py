"""Sources of image files: listed by path, surveyed by header, decoded at the size needed."""

from __future__ import annotations

import errno
import hashlib
import os
import warnings
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from convae.core.errors import DataError
from convae.core.names import count_text
from convae.core.paths import local_path
from convae.core.progress import Progress
from convae.data.data_dirs import DataDirs
from convae.data.images import headers, tiff
from convae.data.images.conversion import with_channels
from convae.data.images.headers import Header
from convae.data.images.pixels import Kind
from convae.data.images.ranges import ValueRange, common_kind
from convae.data.images.reading import MEGAPIXELS, decode, header_of, header_or_reason
from convae.data.io.retries import retry, transient_error
from convae.data.sources.base.source import Column, Listing, Record, Source, Survey, content_digest

SUFFIXES = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".avif", ".bmp", ".dib", ".gif", ".tif", ".tiff"}
    | {".jp2", ".j2k", ".ppm", ".pgm", ".pbm", ".pnm", ".tga"}
)
_PAGED = frozenset({".tif", ".tiff", ".gif", ".webp", ".png", ".apng", ".avif"})

# Pillow refuses twice its own limit in any case.
Megapixels = Annotated[float, Field(gt=0, le=178)]
Pages = Literal["first", "all", "volume", "channels"]
"""Treatment of multi-page files."""


class _Entry(NamedTuple):
    """One image: the index of the file and the page; None for the first page, or for all of them."""

    file: int
    page: int | None = None


class ImageFiles(Source):
    """Image files in a folder; subclasses list the paths.

    Args:
        data_dirs: not used.
        path: the folder.
        megapixels: size limit of an image, in millions of pixels; larger ones are skipped.
        range: the values mapped to 0 and 1; by default the range of the type of each file.
        pages: treatment of multi-page files.
    """

    reading_options: ClassVar = frozenset({"range", "pages"})
    holds_image_files: ClassVar = True
    _scanned: ClassVar = False
    """Whether the paths come from a scan of the folder."""

    def __init__(
        self,
        data_dirs: DataDirs,
        *,
        path: Path,
        megapixels: Megapixels = MEGAPIXELS,
        range: ValueRange | None = None,
        pages: Pages = "first",
    ) -> None:
        super().__init__(data_dirs)
        self._path = local_path(path)
        self._megapixels = megapixels
        self._range = range
        self._pages = pages

    @property
    def _root(self) -> Path:
        """Folder that the paths of the images are relative to."""
        return self._path

    @property
    def value_range(self) -> tuple[float, float] | None:
        """The configured range."""
        return self._range

    @property
    @abstractmethod
    def _paths(self) -> Sequence[str]:
        """Paths of the images relative to the root, with `/` as separator, in order.

        Raises:
            DataError: no images.
        """

    def fingerprint(self) -> str:
        """Location, and path, size, times of change and permissions of every file."""
        total = hashlib.sha256(os.fsencode(self.lineage()))
        for name, stamp in self._stamped_files():
            total.update(os.fsencode(f"{name}\0{stamp}\0"))
        return total.hexdigest()

    def _stamped_files(self) -> Iterable[tuple[str, str]]:
        """The name and the stamp of every file that the images are read from."""
        return zip(self._paths, self._stamps, strict=True)

    def lineage(self) -> str:
        """The folder and the options."""
        # Installing tifffile changes what is read.
        options = f"{self._megapixels:g} {self._range} {self._pages} {self._has_tiff and headers.has_tifffile()}"
        return f"{os.fsencode(self._root.resolve())!r} {options}"

    def survey(self, progress: Progress | None = None, *, sizes: bool = True) -> Survey:
        """From the headers of readable files."""
        found: set[tuple[int, ...]] = set()
        channels: set[int] = set()
        kinds: set[Kind] = set()
        unread = ""
        for done, (name, header) in enumerate(self.headers(progress), start=1):
            if isinstance(header, str):
                unread = unread or f"{name} ({header})"
                continue
            found.add(self._size(header))
            channels.add(header.channels * (len(header.pages) if self._pages == "channels" else 1))
            kinds.add(header.kind)
            # Further files cannot change the result.
            if channels - {1} and "uint8" in kinds and (len(found) > 1 or not sizes) and done < len(self._paths):
                break
        if not found:
            raise DataError(
                f"{self.name}: no readable image among {count_text(len(self._paths), 'file')}. The first: {unread}"
            )
        size = found.pop() if sizes and len(found) == 1 else None
        return Survey(size, channels.pop() if len(channels) == 1 else 3, common_kind(kinds, channels))

    def headers(self, progress: Progress | None = None) -> Iterator[tuple[str, Header | str]]:
        """The name and header of each file, or the reason why it has none."""
        with warnings.catch_warnings():
            # Problems that Pillow warns of either make an image unreadable, which is recorded, or are harmless.
            warnings.simplefilter("ignore")
            for row, name in enumerate(self._paths):
                yield name, self._header(row)
                if progress is not None and row % 256 == 255:
                    progress(row + 1, len(self._paths), f"surveying {self.name} (images)")

    def record(self, index: int, near: tuple[int, ...]) -> Record:
        """One image, decoded at the size needed."""
        row, page = self._entries[index]
        if self._refusal(row):
            raise DataError(self._refusal(row))
        content = self._content(row)
        if self._pages in {"first", "all"}:
            found = decode(content, near, self._megapixels, page=page)
            left_out = len(found.header.pages) - 1 if self._pages == "first" else 0
            return Record(found.pixels, found.header.size, content_digest(content), found.header, left_out)
        return self._stack(content)

    def _content(self, row: int) -> Path | bytes:
        """The file of an image, or its content."""
        return self._root / self._paths[row]

    def _stack(self, content: Path | bytes) -> Record:
        """All pages of a file as one image: as a volume or as channels."""
        header = header_of(content, self._megapixels)
        if len(header.pages) * header.size[0] * header.size[1] > self._megapixels * 1e6:
            raise DataError(f"{len(header.pages)} pages are more than {self._megapixels:g} megapixels")
        pages = [decode(content, None, self._megapixels, page=page) for page in header.pages]
        if len({page.header.size for page in pages}) > 1:
            raise DataError(f"its {len(pages)} pages have different sizes")
        depth = max(page.header.channels for page in pages)
        values = [with_channels(page.pixels, depth) for page in pages]
        stacked: NDArray[Any] = np.stack(values) if self._pages == "volume" else np.concatenate(values, -1)
        return Record(stacked, stacked.shape[:-1], content_digest(content), header)

    def _size(self, header: Header) -> tuple[int, ...]:
        return (len(header.pages), *header.size) if self._pages == "volume" else header.size

    def _header(self, row: int) -> Header | str:
        """The header of a file, or the reason why it is unreadable.

        Raises:
            DataError: reading failed for an external reason after retries.
        """
        if self._refusal(row):
            return self._refusal(row)
        return header_or_reason(self._content(row), self._megapixels, str(self._root / self._paths[row]))

    def _expanded(
        self,
        columns: Mapping[str, Column],
        label: str | None,
        parts: NDArray[np.int8] | None = None,
        skipped: Sequence[tuple[str, str]] = (),
        notes: Sequence[str] = (),
    ) -> Listing:
        """The listing of the images from facts about the files, which may have several pages."""
        rows = np.array([entry.file for entry in self._entries])
        names = [self._paths[file] if page is None else f"{self._paths[file]}#{page}" for file, page in self._entries]
        of_pages = sum(entry.page is not None for entry in self._entries)
        if of_pages:
            files = len({entry.file for entry in self._entries if entry.page is not None})
            notes = [*notes, f"{of_pages:,} images are the pages of {count_text(files, 'file')}, named file#page"]
        return Listing(
            names,
            {name: column[rows] for name, column in columns.items()},
            label,
            None if parts is None else parts[rows],
            skipped,
            [self._stamps[row] for row in rows],
            notes,
        )

    @cached_property
    def _entries(self) -> list[_Entry]:
        """The images: the files, or their pages."""
        if self._pages != "all":
            return [_Entry(row) for row in range(len(self._paths))]
        found: list[_Entry] = []
        for row, name in enumerate(self._paths):
            header = self._header(row) if os.path.splitext(name)[1].lower() in _PAGED else ""  # noqa: PTH122
            pages = () if isinstance(header, str) else header.pages
            found += [_Entry(row, page) for page in pages] if len(pages) > 1 else [_Entry(row)]
        return found

    @cached_property
    def _has_tiff(self) -> bool:
        return any(name.lower().endswith(tiff.SUFFIXES) for name in self._paths)

    @cached_property
    def _stamps(self) -> list[str]:
        """Size, times of change and permissions of every file, or the number of the error on reading them."""
        return [self._stamp(name) for name in self._paths]

    def _stamp(self, name: str) -> str:
        path = os.path.join(self._root, name)  # noqa: PTH118  # a Path takes twice as long

        def stamp() -> str:
            try:
                stat = os.stat(path)  # noqa: PTH116  # as above
            except OSError as error:
                # A file that was just listed and is not a broken link is missing temporarily.
                away = self._scanned and error.errno == errno.ENOENT and not os.path.islink(path)  # noqa: PTH114
                if error.errno not in _LASTING or away:
                    raise
                return f"{error.errno}"
            readable = os.access(path, os.R_OK)
            # Programs can reset mtime, but not ctime.
            found = f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_mode}"
            return found if readable else f"{errno.EACCES}"

        try:
            return retry(stamp)
        except OSError as error:
            raise transient_error(path, error) from error

    def _refusal(self, row: int) -> str:
        """Why a file was unreadable when it was listed; empty if it was readable."""
        stamp = self._stamps[row]
        return "" if " " in stamp else os.strerror(int(stamp))


_LASTING = frozenset({errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EACCES, errno.EPERM})
"""Errors of missing or forbidden files; they are part of the stamp, so that any change leads to another attempt."""
