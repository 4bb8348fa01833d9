"""A split: the images of one part of a data set."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Shaped, UInt8
from numpy.typing import NDArray
from torch import Tensor

from convae.core.types import Shape
from convae.data.augment import AugmentConfig
from convae.data.binarize import Binarization
from convae.data.images.pixels import LEVELS, Kind
from convae.data.images.ranges import range_notes
from convae.data.missing import Missing
from convae.data.sources.base import content_digest
from convae.data.store.store import Store

UNCHANGED = AugmentConfig()
"""No augmentation."""
SplitName = Literal["train", "validation", "test", "all"]


class Split:
    """The images of one part of a data set, in a fixed order, in a memory map.

    Attributes:
        columns: class numbers and class names by column.
        labels: (images,) class numbers of the label column, -1 if missing; None without labels.
        classes: names of these classes; None without names.
        skipped: (name, reason) of each unreadable image of the data set.
        facts: (images,) facts about each original: bit depth, smallest and largest value, unused pages.
        augment: data augmentation; off for held-out images.
        binarize: how values become 0 or 1; None where they are kept.
        missing: how missing values are known; None where all are observed.
        is_hashed: True, as the content hash covers every image.

    Args:
        name: `train`, `validation`, `test` or `all`.
        source: name of the data set.
        store: store of the images.
        rows: (images,) rows of the split in the store, ascending.
        chosen: how the split was chosen, for reports: `official`, or the fractions and the seed.
        label: column of the label.
        augment: data augmentation.
        parts: part of each image, for the split `all`.
        notes: notes on the images for the user, one sentence each.
        missing: how missing values are known; None where all are observed.
        binarize: how values become 0 or 1; None where they are kept.
    """

    is_hashed = True

    def __init__(
        self,
        name: SplitName,
        source: str,
        store: Store,
        rows: NDArray[np.int64],
        chosen: str,
        label: str | None = None,
        augment: AugmentConfig = UNCHANGED,
        parts: Sequence[str] | None = None,
        notes: Sequence[str] = (),
        missing: Missing | None = None,
        binarize: Binarization | None = None,
    ) -> None:
        self.name = name
        self.binarize = binarize
        self.missing = missing
        self.augment = augment
        self.source = source
        self.columns = {key: column[rows] for key, column in store.columns.items()}
        labeled = None if label is None else self.columns[label]
        self.labels: NDArray[np.int64] | None = None if labeled is None else labeled.values
        self.classes = None if labeled is None else labeled.classes
        self.skipped = store.skipped
        self.facts: NDArray[Any] = store.facts[rows]
        self._store = store
        self._rows = rows
        self._image_format = store.image_format
        self._chosen = chosen
        self._parts = parts
        self._notes = notes

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def total(self) -> int:
        """Number of readable images of the data set, over all parts."""
        return len(self._store)

    def with_labels(self, labels: NDArray[np.int64], classes: tuple[str, ...] | None) -> Split:
        """The same images with other labels: (images,) class numbers, and class names."""
        other = copy.copy(self)
        other.labels, other.classes = labels, classes
        other.__dict__.pop("content_hash", None)  # which includes the labels
        return other

    def as_other_data(self) -> Split:
        """The same images with the part `new`, as not belonging to the training data of a model."""
        other = copy.copy(self)
        other._parts = ["new"] * len(self)  # noqa: SLF001  # a copy of this object
        return other

    @property
    def shape(self) -> Shape:
        """(channels, *sizes) of every image."""
        return (self._image_format.channels, *self._image_format.size)

    @property
    def folder(self) -> Path:
        """Folder of the decoded images and of `skipped.csv`, the list of unreadable images."""
        return self._store.folder

    @property
    def kind(self) -> Kind:
        """The type of the stored values."""
        return self._image_format.kind

    @property
    def levels(self) -> int | None:
        """Number of evenly spaced levels of a value: 2 if binarized, those of 8 or 16 bits; None for floats."""
        return 2 if self.binarize else LEVELS[self._image_format.kind]

    @property
    def image_bytes(self) -> int:
        """Bytes of one stored image."""
        return self._image_format.image_bytes

    @property
    def original_sizes(self) -> NDArray[np.int64]:
        """(images, axes) spatial sizes of the originals."""
        return self._store.original_sizes[self._rows]

    def images(
        self, indices: NDArray[np.int64] | Sequence[int], out: UInt8[Tensor, "batch bytes"] | None = None
    ) -> Shaped[Tensor, "batch channel *sizes"]:
        """Gathers the stored values at `indices` with one copy, in the channels_last layout of the store.

        `to_unit` converts them to floats in [0, 1]. Where `missing.is_stored`, a last channel holds the weights.

        Args:
            indices: positions in the split.
            out: buffer with `image_bytes` per image; by default new memory.

        Raises:
            IndexError: invalid position.
            DataError: the stored data is damaged.
        """
        return self._store.gather(self._rows[np.asarray(indices, np.int64)], out)

    def key(self, index: int) -> str:
        """The name of an image, such as its path within a folder."""
        return self._store.names[int(self._rows[index])]

    def part(self, index: int) -> str:
        """The part of an image: `train`, `validation` or `test`, or `new` for other data."""
        return self.name if self._parts is None else self._parts[index]

    @property
    def keys(self) -> list[str]:
        """The names of all images."""
        return [self._store.names[row] for row in self._rows]

    @property
    def contents(self) -> NDArray[np.uint8]:
        """(images, 16) digest of the original content of each image, independent of resizing; that of its file."""
        return self._store.identities[self._rows]

    @property
    def identities(self) -> NDArray[np.uint8]:
        """(images, 16) digest of each image: `contents`, and for the pages of a file their number, too."""
        return self._identities

    @cached_property
    def _identities(self) -> NDArray[np.uint8]:
        found = self.contents
        for row, key in enumerate(self.keys):
            name, mark, page = key.rpartition("#")
            if name and mark and page.isdecimal():
                found[row] = np.frombuffer(content_digest(found[row].tobytes() + page.encode()), np.uint8)
        return found

    @property
    def digests(self) -> NDArray[np.uint8]:
        """(images, 32) SHA-256 of the stored values of each image."""
        return self._store.digests[self._rows]

    @cached_property
    def notes(self) -> list[str]:
        """Notes on the data that affect metrics, one sentence each."""
        return [*self._notes, *self._store.notes, *range_notes(self.facts, self.source, self.kind, self.key)]

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 (hex) of shape, pixels and labels in order; independent of the location of the files."""
        total = hashlib.sha256(repr((self.shape, len(self))).encode())
        total.update(self._store.digests[self._rows].tobytes())
        if self.labels is not None:
            total.update(self.labels.astype("<i8").tobytes())
        return total.hexdigest()

    def describe(self) -> dict[str, Any]:
        """The facts about the data to publish with a metric."""
        return {
            "source": self.source,
            "split": self.name,
            "chosen": self._chosen,
            "count": len(self),
            "channels": self._image_format.channels,
            "size": list(self._image_format.size),
            "resize_mode": self._image_format.resize_mode,
            "skipped": len(self.skipped),
            "content_hash": self.content_hash,
            **({} if (how := self._image_format.interpolation) == "bicubic" else {"interpolation": how}),
            **({} if self.binarize is None else {"binarize": self.binarize}),
            **({} if self.missing is None else {"missing": self.missing.origin or self.missing.fraction}),
        }


def digest_values(digests: NDArray[np.uint8]) -> NDArray[Any]:
    """Digests, (images, bytes), as one value each, (images,), which NumPy compares and sorts."""
    return np.ascontiguousarray(digests).view(f"V{digests.shape[1]}")[:, 0]
