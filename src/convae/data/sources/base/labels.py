"""Conversion of strings to class numbers, and of names such as `train` and `val` to parts of a data set."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from convae.core.errors import DataError
from convae.core.names import count_text, shape_text
from convae.data.io.npy import StoredArray
from convae.data.sources.base.source import PARTS, Column

PART_NAMES = {"train": 0, "training": 0, "validation": 1, "valid": 1, "val": 1, "dev": 1, "test": 2, "testing": 2}
"""Names of each part, in the order of `PARTS`."""


def numbered(texts: Sequence[str]) -> Column:
    """Class numbers in alphabetical order of the strings; an empty string is a missing label."""
    classes = sorted(set(texts) - {""})
    numbers = {text: number for number, text in enumerate(classes)}
    return Column(np.array([numbers.get(text, -1) for text in texts], np.int64), tuple(classes))


def look_alike_notes(classes: Sequence[str]) -> list[str]:
    """A sentence where classes differ only in case, in spaces at their ends, or in how Unicode writes them."""
    alike: dict[str, list[str]] = {}
    for name in classes:
        alike.setdefault(unicodedata.normalize("NFKC", name).strip().casefold(), []).append(name)
    groups = [names for names in alike.values() if len(names) > 1]
    if not groups:
        return []
    listed = "; ".join(", ".join(ascii(name) for name in names) for names in groups[:3])
    return [f"classes with names that look alike are separate classes: {listed}"]


def part_numbers(texts: Sequence[str], where: str) -> NDArray[np.int8]:
    """Indices into `PARTS` for names such as `train` and `val`.

    Raises:
        DataError: an unknown name.
    """
    unknown = next((text for text in texts if text.lower() not in PART_NAMES), None)
    if unknown is not None:
        raise DataError(f"{where}: '{unknown}' is not a part of a data set. Use {', '.join(PARTS)}")
    return np.array([PART_NAMES[text.lower()] for text in texts], np.int8)


def factor_columns(
    arrays: Sequence[StoredArray | None], counts: Sequence[int], names: Sequence[str] | None, where: str
) -> dict[str, Column]:
    """A column for each factor of variation.

    Args:
        arrays: (images, factors) integers for each array of images, or None where they are missing; empty without any.
        counts: number of images of each.
        names: of the factors; by default `factor-1` and so on.
        where: the file, for messages.

    Raises:
        DataError: an array is not of integers, or has another shape than the images or the names.
    """
    values = []
    depth = next((array.shape[-1] for array in arrays if array is not None), 0)
    for array, count in zip(arrays, counts, strict=False):
        if array is not None and (array.shape != (count, depth) or array.dtype.kind not in "iub"):
            raise DataError(
                f"{where}: factors must be integers, ({count}, factors), got {shape_text(array.shape)} {array.dtype}"
            )
        values.append(np.full((count, depth), -1) if array is None else array.read().astype(np.int64))
    shown = [f"factor-{place}" for place in range(1, depth + 1)] if names is None else names
    if len(shown) != depth:
        raise DataError(f"{where}: {count_text(len(shown), 'name')} for {count_text(depth, 'factor')}")
    return {name: Column(column) for name, column in zip(shown, np.concatenate(values).T, strict=True)} if depth else {}
