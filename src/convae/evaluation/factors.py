"""Known factors of variation of images: categorical columns of a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convae.core.errors import ConfigError
from convae.core.names import unknown_message
from convae.data.sources.base import Column


@dataclass(frozen=True)
class Factors:
    """Values of the factors of variation of some images.

    Attributes:
        names: names of the factors.
        values: (image, factor), class numbers from 0.
    """

    names: tuple[str, ...]
    values: NDArray[np.int64]

    def __getitem__(self, rows: NDArray[np.int64] | slice) -> Factors:
        """The factors of some of the images."""
        return Factors(self.names, self.values[rows])


def factors_of(columns: Mapping[str, Column], names: Sequence[str] | None) -> tuple[Factors, NDArray[np.int64]]:
    """The factors of all images that have a value for each, and the positions of these images.

    Args:
        columns: columns of the split.
        names: names of the columns that are factors; by default all.

    Raises:
        ConfigError: unknown column, fewer than two factors, or a factor that is constant or different in each image.
    """
    chosen = list(columns if names is None else names)
    unknown = next((name for name in chosen if name not in columns), None)
    if unknown is not None:
        raise ConfigError(f"factors: {unknown_message('column', unknown, columns or ['nothing'])}")
    if len(set(chosen)) < 2:
        raise ConfigError(
            "disentanglement needs two factors or more, columns of the data such as those of a manifest, of the array "
            f"`factors` of a .npz file, or of sprites. Columns here: {', '.join(columns) or 'none'}"
        )
    values = np.stack([columns[name].values for name in chosen], 1)
    rows = np.flatnonzero((values >= 0).all(1))
    values = values[rows]
    for name, column in zip(chosen, values.T, strict=True):
        different = len(np.unique(column))
        if different < 2:
            raise ConfigError(f"factors: column '{name}' has the same value in all {len(rows):,} images. Leave it out")
        if different == len(rows):
            raise ConfigError(f"factors: column '{name}' has a value of its own in every image. Leave it out")
    return Factors(tuple(chosen), values), rows
