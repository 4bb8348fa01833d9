"""Images passed as objects, as a source: for the commands of a trained model in Python."""

from __future__ import annotations

import hashlib
from threading import Lock
from typing import Any

import numpy as np

from convae.core.progress import Progress
from convae.data.data_dirs import DataDirs
from convae.data.sources.base import Column, Listing, Record, Source, Survey
from convae.data.splits.given import GivenImages
from convae.data.splits.given_items import open_items

_READ = 256
"""Items that are read at a time for the digest."""
_VERSION = 2
"""Version of what a store holds of the images besides their values."""


class GivenSource(Source):
    """An array, a tensor or a map-style dataset as a source; a dataset is read by one thread at a time.

    Args:
        images: as the `data` of `convae.train`.

    Raises:
        DataError: invalid data; the message says how to pass it.
    """

    def __init__(self, images: Any) -> None:
        super().__init__(DataDirs((), download=False))
        self._items, self._labels = open_items(images, None, channels_last=False)
        self._digests, self._lock = self._items.digests(), Lock()

    @property
    def name(self) -> str:
        """The name in messages."""
        return GivenImages.source

    def fingerprint(self) -> str:
        """SHA-256 of all values and labels, and a version."""
        items, labels = self._items, self._labels
        total = hashlib.sha256(repr((_VERSION, items.kind, items.shape, len(items))).encode())
        for start in range(0, len(items), _READ):
            values = items.read(np.arange(start, min(start + _READ, len(items))))
            total.update(values.contiguous().numpy().tobytes())
        total.update(b"" if labels is None else labels.tobytes())
        return total.hexdigest()

    def survey(self, progress: Progress | None = None, *, sizes: bool = True) -> Survey:
        """Shape and type of the first item, which the others have as well."""
        channels, *size = self._items.shape
        return Survey(tuple(size), channels, self._items.kind)

    def listing(self) -> Listing:
        """The images by number."""
        names = [f"{index:06d}" for index in range(len(self._items))]
        if self._labels is None:
            return Listing(names)
        return Listing(names, {"class": Column(self._labels)}, "class")

    def record(self, index: int, near: tuple[int, ...]) -> Record:
        """One item."""
        with self._lock:
            values = self._items.read(np.array([index]))[0]
        identity = self._digests[index].tobytes()  # as in the training, whose random numbers depend on it
        return Record(values.movedim(0, -1).contiguous().numpy(), self._items.shape[1:], identity)
