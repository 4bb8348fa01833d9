"""Labeled images that are drawn into every batch."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from jaxtyping import Int64
from numpy.typing import NDArray
from torch import Tensor

from convae.core.random import numpy_generator
from convae.core.types import Images
from convae.data.augment import Augmentation, AugmentConfig


class LabeledDraws:
    """Replaces some images of each batch by labeled ones, which pass in a shuffled order, again and again.

    Which images a batch gets is a pure function of the seed and the number of the batch.

    Args:
        labels: (image,) class numbers, −1 if missing; at least one is known.
        fraction: of each batch, at least one image.
        augment: augmentation of the drawn images; equal images in several batches of an epoch differ by it.
        seed: of order and augmentation.
    """

    def __init__(self, labels: NDArray[np.int64], fraction: float, augment: AugmentConfig, seed: int) -> None:
        self._labeled = np.flatnonzero(labels >= 0)
        self._fraction, self._seed = fraction, seed
        self._augment = None if augment == AugmentConfig() else Augmentation(augment, seed)
        self._order = lru_cache(maxsize=2)(self._permutation)

    def rows(self, size: int) -> NDArray[np.int64]:
        """The replaced rows of a batch, evenly spaced, so that every process gets its share of them."""
        count = max(1, round(self._fraction * size))
        return np.arange(count) * size // count

    def insert(self, indices: NDArray[np.int64], number: int) -> NDArray[np.int64]:
        """The positions of the images of a batch, (batch,), with labeled ones in the rows `rows`.

        Args:
            indices: of the batch without draws.
            number: of the batch, counted from the start of the training.
        """
        rows = self.rows(len(indices))
        passes, places = np.divmod(number * len(rows) + np.arange(len(rows)), len(self._labeled))
        found = indices.copy()
        found[rows] = [self._order(own)[place] for own, place in zip(passes.tolist(), places, strict=True)]
        return found

    def augment(self, images: Images, indices: Int64[Tensor, " batch"], number: int, strength: float) -> Images:
        """Augments drawn images.

        Args:
            images: (batch, channel, *sizes) in [0, 1].
            indices: (batch,) their positions in the split.
            number: as for `insert`.
            strength: factor on the amounts.
        """
        return images if self._augment is None else self._augment(images, indices, number, strength)

    def _permutation(self, number: int) -> NDArray[np.int64]:
        return numpy_generator(self._seed, "labeled", number).permutation(self._labeled)
