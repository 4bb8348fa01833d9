"""Matching the classes of two data sets by name, since numbers depend on the set of classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from convae.core.types import MISSING_LABEL
from convae.data.split import Split


def match_classes(split: Split, names: Sequence[str], *, extend: bool = False) -> tuple[Split, dict[str, int]]:
    """Renumbers the labels of a split to match `names`.

    Classes without names are matched by number if a name is a number, and by position otherwise.

    Args:
        split: with or without labels.
        names: names of the classes, such as `model.provenance.classes`.
        extend: whether classes that are not in `names` get the following numbers; otherwise their images are unlabeled.

    Returns:
        The split, and the number of images by class that is not in `names`.
    """
    if split.labels is None:
        return split, {}
    present = sorted(set(split.labels[split.labels >= 0].tolist()))
    are_numbers = split.classes is None and not any(name.isdecimal() for name in names)
    called = {}
    for number in present:
        if are_numbers and number < len(names):
            called[number] = names[number]
        else:
            called[number] = str(number) if split.classes is None else split.classes[number]
    known = {name: number for number, name in enumerate(names)}
    others = [name for name in called.values() if name not in known]
    if extend:
        known |= {name: len(names) + place for place, name in enumerate(others)}
    labels = np.full_like(split.labels, MISSING_LABEL)
    for number, name in called.items():
        labels[split.labels == number] = known.get(name, MISSING_LABEL)
    counts = Counter(split.labels.tolist())
    unknown = {name: counts[number] for number, name in called.items() if name in others}
    return split.with_labels(labels, tuple(known)), unknown
