"""Binarized MNIST: 50,000 + 10,000 + 10,000 handwritten digits in black and white, 28×28."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from convae.core.errors import DataError
from convae.core.progress import Progress
from convae.data.io.npy import open_npz
from convae.data.sources.base import PARTS, Listing, Record, Survey
from convae.data.sources.base.published import PublishedSource

_FILE = "binarized_mnist_packed.npz"
_KEYS = ("train", "valid", "test")


class BinarizedMnist(PublishedSource):
    """The fixed binarization of MNIST with its official three parts (H. Larochelle and I. Murray, 2011).

    Read from one file with the arrays `train`, `valid` and `test`: the 784 pixels of each image as bits, packed by
    `numpy.packbits`. There are no labels.
    """

    counts: ClassVar[Mapping[str, int]] = {"train": 50_000, "valid": 10_000, "test": 10_000}
    remotes: ClassVar = ()
    origin: ClassVar = "https://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/"

    def locate(self, folder: Path) -> Mapping[str, Path] | None:
        """The file with the packed images."""
        return {"images": folder / _FILE} if (folder / _FILE).is_file() else None

    def survey(self, progress: Progress | None = None, *, sizes: bool = True) -> Survey:
        """28×28, gray."""
        return Survey((28, 28), 1)

    def listing(self) -> Listing:
        """The training, validation and test images."""
        names = [f"{key}/{index:05d}" for key in _KEYS for index in range(self.counts[key])]
        parts = np.repeat(np.arange(len(PARTS), dtype=np.int8), [self.counts[key] for key in _KEYS])
        return Listing(names, parts=parts)

    def record(self, index: int, near: tuple[int, ...]) -> Record:
        """One image; the first call reads all of them."""
        pixels = np.unpackbits(self._packed[index]).reshape(28, 28, 1) * np.uint8(255)
        return Record(pixels, (28, 28))

    @property
    def _by_hand(self) -> str:
        return (
            f"Download the three files from {self.origin}, pack them as the arrays {', '.join(_KEYS)} of {_FILE} with"
            f" numpy.packbits along axis 1, and move it into {self._home}"
        )

    @cached_property
    def _packed(self) -> NDArray[np.uint8]:
        path = self.files["images"]
        arrays = open_npz(path)
        for key in _KEYS:
            expected = (self.counts[key], 784 // 8)
            if key not in arrays or arrays[key].shape != expected or arrays[key].dtype != np.uint8:
                raise DataError(f"{path}: damaged: expected an array {key} of {expected} bytes. Download it again")
        return np.concatenate([arrays[key].read() for key in _KEYS])
