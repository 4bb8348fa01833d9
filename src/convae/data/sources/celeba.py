"""CelebA: 202,599 aligned portraits of 10,177 people with 40 attributes, 178×218 RGB."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from convae.core.errors import DataError
from convae.core.files import read_bytes
from convae.core.progress import Progress
from convae.data.images.reading import MEGAPIXELS, decode
from convae.data.io.download import Remote
from convae.data.sources.base import Column, Listing, Record, Survey, content_digest
from convae.data.sources.base.published import PublishedSource

_IMAGES = "img_align_celeba"
_LARGEST = 4 << 20
"""Size limit of a portrait, in bytes."""
_LONGEST = 1 << 28
"""Size limit of a list, in bytes."""
_LISTS = {"parts": "list_eval_partition.txt", "identities": "identity_CelebA.txt", "attributes": "list_attr_celeba.txt"}


def _remote(name: str, identity: str, digest: str) -> Remote:
    """A file in the authors' Google Drive, which is often over quota, and at GRAAL of Université Laval."""
    drive = f"https://drive.usercontent.google.com/download?id={identity}&export=download&confirm=t"
    return Remote(name, (drive, f"https://graal.ift.ulaval.ca/public/celeba/{name}"), digest, "md5")


class Celeba(PublishedSource):
    """Portraits with an official partition, 178×218 RGB (Z. Liu, P. Luo, X. Wang, X. Tang, 2015).

    The images are read from the archive `img_align_celeba.zip`, or from its unpacked folder. The columns are `identity`
    and one for each attribute, such as `Smiling`, with the classes `no` and `yes`; `data.label` selects the label, and
    without it there is none.
    """

    origin: ClassVar = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
    remotes: ClassVar = (
        _remote("list_eval_partition.txt", "0B7EVK8r0v71pY0NSMzRuSXJEVkk", "d32c9cbf5e040fd4025c592c306e6668"),
        _remote("identity_CelebA.txt", "1_ee_0u7vcNLOfNLegJRHmolfH5ICW-XS", "32bd1bd63d3c78cd57e08160ec5ed1e2"),
        _remote("list_attr_celeba.txt", "0B7EVK8r0v71pblRyaVFSWGxPY0U", "75e246fa4810816ffd6ee81facbd244c"),
        _remote("img_align_celeba.zip", "0B7EVK8r0v71pZjFTYXZWM3FlRnM", "00d2c5bc6d35e252742224ab0c1e8fcb"),
    )

    def locate(self, folder: Path) -> Mapping[str, Path] | None:
        """The three lists, and the archive or the folder of images."""
        found = {kind: folder / name for kind, name in _LISTS.items()}
        images = [folder / f"{_IMAGES}.zip", folder / _IMAGES]
        there = [path for path in images if path.exists()]
        return {**found, "images": there[0]} if there and all(path.is_file() for path in found.values()) else None

    def survey(self, progress: Progress | None = None, *, sizes: bool = True) -> Survey:
        """The size of the first image, which all share; RGB."""
        return Survey(self.record(0, (10**6, 10**6)).size, 3)

    def listing(self) -> Listing:
        """The images in the order of the list of partitions."""
        identities = dict(self._pairs("identities"))
        names = self._names
        missing = next((name for name in names if name not in identities), None)
        if missing is not None:
            raise DataError(f"{self.files['identities']}: {missing} missing; the files are of different data sets")
        columns = {"identity": Column(np.array([identities[name] for name in names], np.int64))}
        parts = np.array([part for _, part in self._pairs("parts")], np.int64)
        if parts.min() < 0 or parts.max() > 2:
            raise DataError(f"{self.files['parts']}: damaged: parts must be 0, 1 or 2. Download it again")
        columns |= self._attributes()
        return Listing(names, columns, parts=parts.astype(np.int8))

    def record(self, index: int, near: tuple[int, ...]) -> Record:
        """One portrait, decoded at the size needed."""
        name = self._names[index]
        if self._archive is None:
            return _record(self.files["images"] / name, near)
        try:
            member = self._archive.getinfo(f"{_IMAGES}/{name}")
            if member.file_size > _LARGEST:
                raise DataError(f"{member.file_size:,} bytes are too large for a portrait")
            content = self._archive.read(member)
        except KeyError as error:
            raise DataError("missing in the archive") from error
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise DataError(f"damaged in the archive ({error})") from error
        return _record(content, near)

    @cached_property
    def _names(self) -> Sequence[str]:
        return [name for name, _ in self._pairs("parts")]

    @cached_property
    def _archive(self) -> zipfile.ZipFile | None:
        """The archive of the images; None for a folder."""
        path = self.files["images"]
        if path.is_dir():
            return None
        try:
            return zipfile.ZipFile(path)
        except (zipfile.BadZipFile, EOFError) as error:
            raise DataError(f"{path}: damaged archive ({error}). Download it again") from error
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error

    def _lines(self, kind: str) -> list[list[str]]:
        """The words of each line of a list."""
        path = self.files[kind]
        try:
            text = read_bytes(path, _LONGEST).decode("ascii")
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: damaged, not a text file. Download it again") from error
        return [words for line in text.splitlines() if (words := line.split())]

    def _pairs(self, kind: str) -> list[tuple[str, int]]:
        """The (name, number) pairs of a list."""
        try:
            pairs = [(name, int(number)) for name, number in self._lines(kind)]
        except ValueError as error:
            raise DataError(
                f"{self.files[kind]}: damaged: each line must have a name and a number. Download it again"
            ) from error
        if not pairs:
            raise DataError(f"{self.files[kind]}: damaged: empty. Download it again")
        return pairs

    def _attributes(self) -> dict[str, Column]:
        """The columns of the table of attributes: the first line is the count, the second the names."""
        path = self.files["attributes"]
        lines = self._lines("attributes")
        try:
            (count,), attributes, *rows = lines
            known = {name: values for name, *values in rows}
            table = np.array([known[name] for name in self._names]).astype(np.int64)
        except (ValueError, KeyError) as error:
            raise DataError(f"{path}: damaged, or of different images ({error}). Download it again") from error
        if int(count) != len(rows) or table.shape[1:] != (len(attributes),) or not np.isin(table, (-1, 1)).all():
            raise DataError(
                f"{path}: damaged: expected {count} rows of {len(attributes)} values of 1 or -1. Download it again"
            )
        return {
            attribute: Column((table[:, number] + 1) // 2, ("no", "yes")) for number, attribute in enumerate(attributes)
        }


def _record(content: Path | bytes, near: tuple[int, ...]) -> Record:
    pixels, header = decode(content, near, MEGAPIXELS)
    return Record(pixels, header.size, content_digest(content), header)
