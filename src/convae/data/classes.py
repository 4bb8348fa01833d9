"""Classes of one data set as those of another: matched by name, since numbers depend on which classes are there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from convae.core.types import MISSING_LABEL
from convae.data.split import Split


def match_classes(split: Split, names: Sequence[str], *, extend: bool = False) -> tuple[Split, dict[str, int]]:
    """A split whose labels are numbered as `names` are.

    Classes without a name are called by their number. Where no name is a number, they are the numbers of the names.

    Args:
        split: with labels or without.
        names: of the classes, such as `model.provenance.classes`.
        extend: whether classes of other names get the numbers after those of `names`; otherwise their images have no
            label.

    Returns:
        The split, and how many of its images are of classes of other names.
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
