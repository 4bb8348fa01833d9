"""Images that a data set holds more than once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convae.data.split import Split


@dataclass(frozen=True)
class Duplicates:
    """How often images of a data set are repeated.

    Attributes:
        images: how many images there are at least twice, every copy counted.
        distinct: how many different ones these are.
        trained_on: for each part that is held out, how many of its images are training images, too.
        held_out: how many images each of these parts has.
    """

    images: int
    distinct: int
    trained_on: dict[str, int]
    held_out: dict[str, int]


def find_duplicates(parts: Mapping[str, Split]) -> Duplicates:
    """Compares the stored values of all images of a data set.

    Args:
        parts: its splits by name.
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
