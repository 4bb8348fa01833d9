"""A source whose images are numbers, so that a test sees which of them a store holds."""

from __future__ import annotations

import numpy as np

from convae.core.errors import DataError
from convae.core.progress import Progress
from convae.data.data_dirs import DataDirs
from convae.data.sources.base import Column, Listing, Record, Source, Survey


class Numbered(Source):
    """Images of 2×3 pixels and 3 channels, image i filled with i modulo 256; those in `bad` cannot be read."""

    def __init__(self, count: int, bad: frozenset[int] = frozenset(), labels: bool = True) -> None:
        super().__init__(DataDirs())
        self.count, self.bad, self.labels = count, bad, labels
        self.reads = 0

    def fingerprint(self) -> str:
        return f"{self.count} {sorted(self.bad)} {self.labels}"

    def survey(self, progress: Progress | None = None, *, sizes: bool = True) -> Survey:
        return Survey((2, 3), 3)

    def listing(self) -> Listing:
        labels = np.arange(self.count, dtype=np.int64) % 3 if self.labels else None
        columns = {} if labels is None else {"class": Column(labels)}
        return Listing([str(index) for index in range(self.count)], columns, "class" if columns else None)

    def record(self, index: int, near: tuple[int, ...]) -> Record:
        self.reads += 1
        if index in self.bad:
            raise DataError("broken on purpose")
        return Record(np.full((2, 3, 3), index % 256, np.uint8), (2, 3))
