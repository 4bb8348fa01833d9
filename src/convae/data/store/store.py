"""The store: a memory map of every image of a source, decoded and resized once.

    stores/<place>-<content>/   pixels.bin   (images, *sizes, channels)
                                arrays.npz   columns, parts, digests, original sizes
                                names.json   skipped.csv   index.json

`place` is a hash of the source and the format, `content` one of the content of the source. A store is complete or
absent: `building` builds and resumes it, and reuses images of an earlier one; `cache` finds it.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped
from numpy.typing import NDArray
from torch import Tensor

from convae.core.errors import DataError
from convae.data.images.pixels import Interpolation, Kind, ResizeMode
from convae.data.missing import Origin
from convae.data.sources.base import Column, Listing

FORMAT = 5
"""Version of the layout of the folder, and of how images are read and resized; part of the cache key."""
_SMALL = ("arrays.npz", "names.json", "skipped.csv")


@dataclass(frozen=True)
class ImageFormat:
    """Format of stored images: spatial sizes (height first), channels, resizing, and type of values.

    With `missing`, a further channel holds the weight of each pixel, 0 where it is missing.
    """

    size: tuple[int, ...]
    channels: int
    resize_mode: ResizeMode = "crop"
    kind: Kind = "uint8"
    missing: Origin | None = None
    interpolation: Interpolation = "bicubic"

    @property
    def stored_channels(self) -> int:
        """Number of channels with that of the weights."""
        return self.channels + (self.missing is not None)

    @property
    def image_bytes(self) -> int:
        """Bytes of one image."""
        return math.prod(self.size) * self.stored_channels * np.dtype(self.kind).itemsize


class Store:
    """The images of one source in one format.

    Every image is verified against its digest on first access, so that a disk fault is an error and not a wrong metric.

    Attributes:
        folder: folder of the store.
        image_format: format of the images.
        columns: labels and other columns by name.
        label: column of the label, or None.
        parts: (images,) official parts as indices into `sources.base.PARTS`; None without an official split.
        digests: (images, 32) SHA-256 of each image's values.
        identities: (images, 16) digest of the original content of each image, independent of the format.
        keys: (images, 16) hash of the name and the stamp of each image.
        original_sizes: (images, axes) spatial sizes before resizing.
        facts: (images,) facts about each original, of type `ranges.FACTS`.
        notes: notes on the images for the user, one sentence each.
        skipped: (name, reason) of each unreadable image.
    """

    def __init__(
        self, folder: Path, image_format: ImageFormat, index: Mapping[str, Any], files: Mapping[str, bytes]
    ) -> None:
        """Opens a folder with its index and the content of its other small files."""
        self.folder = folder
        self.image_format = image_format
        self.label: str | None = index["label"]
        self.notes: tuple[str, ...] = tuple(index["notes"])
        self.skipped = _skipped(files["skipped.csv"])
        with np.load(io.BytesIO(files["arrays.npz"]), allow_pickle=False) as arrays:
            self.parts: NDArray[np.int8] | None = arrays.get("parts")
            self.digests: NDArray[np.uint8] = arrays["digests"]
            self.identities: NDArray[np.uint8] = arrays["identities"]
            self.keys: NDArray[np.uint8] = arrays["keys"]
            self.original_sizes: NDArray[np.int64] = arrays["original_sizes"]
            self.facts: NDArray[Any] = arrays["facts"]
            self.columns = {
                column["name"]: Column(arrays[f"column {number}"], column["classes"] and tuple(column["classes"]))
                for number, column in enumerate(index["columns"])
            }
        self._names = files["names.json"]
        self._checked = np.zeros(len(self.digests), bool)
        # A private writable mapping, since torch does not support read-only memory.
        shape = (len(self.digests), image_format.image_bytes)
        self._rows = torch.from_numpy(np.memmap(folder / "pixels.bin", np.uint8, "c", shape=shape))

    def __len__(self) -> int:
        return len(self.digests)

    @cached_property
    def names(self) -> list[str]:
        """The name of each image."""
        names: list[str] = json.loads(self._names)
        return names

    def gather(self, rows: NDArray[np.int64], out: Tensor | None = None) -> Shaped[Tensor, "batch channel *sizes"]:
        """Gathers rows with one copy, in the channels_last layout of the store.

        Args:
            rows: (batch,) their positions.
            out: (batch, bytes of an image) buffer; by default new memory.

        Raises:
            IndexError: invalid row.
            DataError: the stored data is damaged.
        """
        fresh = rows[~self._checked[rows]]
        for row in fresh:
            self._check(int(row))
        gathered = torch.index_select(self._rows, 0, torch.from_numpy(rows), out=out)
        shape = (len(rows), *self.image_format.size, self.image_format.stored_channels)
        return gathered.view(getattr(torch, self.image_format.kind)).view(shape).movedim(-1, 1)

    def trust(self) -> None:
        """Marks every image as verified, because this process has just written or read it."""
        self._checked[:] = True

    def _check(self, row: int) -> None:
        if hashlib.sha256(self._rows[row].numpy().data).digest() != self.digests[row].tobytes():
            raise DataError(
                f"{self.folder}: damaged: {self.names[row]} changed on the disk. Remove the folder, and it is built"
                " again"
            )
        self._checked[row] = True


def open_if_complete(folder: Path, image_format: ImageFormat) -> Store | None:
    """Opens the store in `folder` if it is complete and its small files are intact; otherwise None."""
    try:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        files = {name: (folder / name).read_bytes() for name in index["files"]}
        digests = {name: content_digest(content) for name, content in files.items()}
        sound = index.pop("sha256") == content_digest(json.dumps(index).encode()) and digests == index["files"]
        if not sound or (folder / "pixels.bin").stat().st_size != index["count"] * image_format.image_bytes:
            return None
        return Store(folder, image_format, index, files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write_index(
    folder: Path, source: str, image_format: ImageFormat, count: int, listing: Listing, columns: Mapping[str, Column]
) -> None:
    """Completes a store by its index, with digests of the other small files and of itself."""
    files = {name: content_digest((folder / name).read_bytes()) for name in _SMALL}
    named = [{"name": name, "classes": column.classes} for name, column in columns.items()]
    index: dict[str, Any] = {"source": source, "count": count, "label": listing.label, "notes": [*listing.notes]}
    index |= {"form": asdict(image_format), "columns": named, "files": files}
    # In the form in which it will be read: tuples become lists.
    index["sha256"] = content_digest(json.dumps(index).encode())
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")


def write_skipped(path: Path, skipped: Sequence[tuple[str, str]]) -> None:
    """Writes the table of unreadable images."""
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        csv.writer(file).writerows([("name", "reason"), *skipped])


def content_digest(content: bytes) -> str:
    """SHA-256 of the content of a file, hex."""
    return hashlib.sha256(content).hexdigest()


def _skipped(content: bytes) -> list[tuple[str, str]]:
    text = io.StringIO(content.decode("utf-8", "surrogateescape"), newline="")
    return [(name, reason) for name, reason in list(csv.reader(text))[1:]]
