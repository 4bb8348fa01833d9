"""The store: every image of a source decoded and resized once, into a memory map.

    stores/<place>-<content>/   pixels.bin   (images, *sizes, channels), values as they come
                                arrays.npz   columns, parts, digests, original sizes
                                names.json   skipped.csv   index.json

`place` names the source and the form, `content` what the source held. A store is complete or not there; how one
comes about, is resumed and takes over what an earlier one decoded is told in `building`, how it is found in `cache`.
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
from convae.data.pixels import Kind, ResizeMode
from convae.data.sources.base import Column, Listing

FORMAT = 4
"""Version of the folder's layout and of the resizing; another one is another store."""
_SMALL = ("arrays.npz", "names.json", "skipped.csv")


@dataclass(frozen=True)
class ImageFormat:
    """What the images are brought to: spatial sizes (height first), channels, how they fill the size, value type."""

    size: tuple[int, ...]
    channels: int
    resize_mode: ResizeMode = "crop"
    kind: Kind = "uint8"

    @property
    def image_bytes(self) -> int:
        """Bytes of one image."""
        return math.prod(self.size) * self.channels * np.dtype(self.kind).itemsize


class Store:
    """The images of one source in one form.

    Every image is checked against its digest when it is first gathered, so that a disk's fault is an error and not
    a wrong figure.

    Attributes:
        folder: where it lies.
        image_format: what the images were brought to.
        columns: what is known of the images, by name.
        label: the column that counts as the label, or None.
        parts: (images,) official parts, counted as in `sources.base.PARTS`; None without an official split.
        digests: (images, 32) SHA-256 of each image's values.
        identities: (images, 16) digest of each image's content as the source holds it, whatever the form.
        keys: (images, 16) hash of each image's name and of what changes when it does.
        original_sizes: (images, axes) spatial sizes before resizing.
        facts: (images,) what each image was in its file, as `ranges.FACTS` has it.
        notes: what a person should know of how the images were found, a sentence each.
        skipped: (name, reason) of each image that could not be read.
    """

    def __init__(
        self, folder: Path, image_format: ImageFormat, index: Mapping[str, Any], files: Mapping[str, bytes]
    ) -> None:
        """From a folder, what its index says and the content of its other small files."""
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
        # Mapped so that it could be written to, privately: torch has no read-only tensors.
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
        """The images in some rows, copied once; in torch's channels_last layout, because they lie so in the store.

        Args:
            rows: (batch,) their positions.
            out: (batch, bytes of an image) bytes to copy into; otherwise new memory.

        Raises:
            IndexError: there is no such row.
            DataError: the disk does not hold what was written.
        """
        fresh = rows[~self._checked[rows]]
        for row in fresh:
            self._check(int(row))
        gathered = torch.index_select(self._rows, 0, torch.from_numpy(rows), out=out)
        shape = (len(rows), *self.image_format.size, self.image_format.channels)
        return gathered.view(getattr(torch, self.image_format.kind)).view(shape).movedim(-1, 1)

    def trust(self) -> None:
        """Takes every image for checked: this process has just written or read it."""
        self._checked[:] = True

    def _check(self, row: int) -> None:
        if hashlib.sha256(self._rows[row].numpy().data).digest() != self.digests[row].tobytes():
            raise DataError(
                f"{self.folder}: damaged: {self.names[row]} is not what was stored: remove the folder, and it is built"
                " again"
            )
        self._checked[row] = True


def open_if_complete(folder: Path, image_format: ImageFormat) -> Store | None:
    """The store in `folder`, if there is one and its files are what was written, but for the pixels of each image."""
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
    """Completes a store: writes the index, which states the digests of the other small files and its own."""
    files = {name: content_digest((folder / name).read_bytes()) for name in _SMALL}
    named = [{"name": name, "classes": column.classes} for name, column in columns.items()]
    index: dict[str, Any] = {"source": source, "count": count, "label": listing.label, "notes": [*listing.notes]}
    index |= {"form": asdict(image_format), "columns": named, "files": files}
    # As it will be read: tuples become lists.
    index["sha256"] = content_digest(json.dumps(index).encode())
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")


def write_skipped(path: Path, skipped: Sequence[tuple[str, str]]) -> None:
    """Writes the table of images that could not be read; names that are no text keep their bytes."""
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        csv.writer(file).writerows([("name", "reason"), *skipped])


def content_digest(content: bytes) -> str:
    """SHA-256 of a file's content, hex."""
    return hashlib.sha256(content).hexdigest()


def _skipped(content: bytes) -> list[tuple[str, str]]:
    text = io.StringIO(content.decode("utf-8", "surrogateescape"), newline="")
    return [(name, reason) for name, reason in list(csv.reader(text))[1:]]
