"""Conversion of strings to class numbers, and of names such as `train` and `val` to parts of a data set."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from convae.core.errors import DataError
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
