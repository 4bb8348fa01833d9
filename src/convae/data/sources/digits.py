"""The handwritten digits of scikit-learn: 1,797 gray images of 8×8 pixels, without download."""

from __future__ import annotations

from functools import cached_property
from importlib.metadata import version
from typing import Any

import numpy as np

from convae.core.progress import Progress
from convae.data.sources.base import Column, Listing, Record, Source, Survey


class Digits(Source):
    """Handwritten digits, 8×8 gray, included in scikit-learn (E. Alpaydin and C. Kaynak, UCI, 1998).

    The 17 gray levels 0…16 are scaled to 0…255 and rounded. There is no official split.
    """

    def fingerprint(self) -> str:
        """The version of scikit-learn."""
        return f"digits of scikit-learn {version('scikit-learn')}"

    def survey(self, progress: Progress | None = None, *, sizes: bool = True) -> Survey:
        """8×8, gray."""
        return Survey((8, 8), 1)

    def listing(self) -> Listing:
        """The digits with their labels."""
        labels = self._bunch.target.astype(np.int64)
        names = [f"{index:04d}" for index in range(len(labels))]
        return Listing(names, {"class": Column(labels, tuple("0123456789"))}, "class")

    def record(self, index: int, near: tuple[int, ...]) -> Record:
        """One digit, scaled to uint8."""
        pixels = np.rint(self._bunch.images[index] * (255 / 16)).astype(np.uint8)
        return Record(pixels[..., None], pixels.shape)

    @cached_property
    def _bunch(self) -> Any:
        from sklearn.datasets import load_digits

        return load_digits()
