"""Duplicate images of a data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convae.data.split import Split


@dataclass(frozen=True)
class Duplicates:
    """Duplicates in a data set.

    Attributes:
        images: number of images with duplicates, counting every copy.
        distinct: number of distinct images among them.
        trained_on: for each held-out split, the number of its images that are training images as well.
        held_out: number of images of each held-out split.
    """

    images: int
    distinct: int
    trained_on: dict[str, int]
    held_out: dict[str, int]


def find_duplicates(parts: Mapping[str, Split]) -> Duplicates:
    """Finds duplicates by the stored values of all images.

    Args:
        parts: the splits by name.
    """
    digests = {name: _rows(split.digests) for name, split in parts.items()}
    trained_on = digests.get("train", np.empty(0, "V32"))
    counts = np.unique(np.concatenate([*digests.values()]), return_counts=True)[1]
    held_out = [name for name in digests if name != "train"]
    return Duplicates(
        images=int(counts[counts > 1].sum()),
        distinct=int((counts > 1).sum()),
        trained_on={name: int(np.isin(digests[name], trained_on).sum()) for name in held_out},
        held_out={name: len(digests[name]) for name in held_out},
    )


def _rows(digests: NDArray[np.uint8]) -> NDArray[Any]:
    """(images,) the digests as one value each."""
    return np.ascontiguousarray(digests).view(f"V{digests.shape[1]}")[:, 0]
