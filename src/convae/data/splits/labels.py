"""Labels of a split: hiding some of them, and matching the classes of two data sets by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from convae.core.random import numpy_generator
from convae.core.types import MISSING_LABEL
from convae.data.splits.split import Split


def mask_labels(labels: NDArray[np.int64], keep: int | float, seed: int) -> NDArray[np.int64]:
    """The labels of some images, the others missing.

    Args:
        labels: (images,) class numbers, -1 where one is missing.
        keep: how many: a whole number, or, as a float, a fraction of the known ones. Each class keeps as many, up to
            one, as long as it has them.
        seed: of the choice. A larger number keeps what a smaller one keeps, and more.
    """
    known = np.flatnonzero(labels != MISSING_LABEL)
    count = keep if isinstance(keep, int) else round(keep * len(known))
    order = numpy_generator(seed, "labels").permutation(known)
    # The first of each class, then the second of each, and so on.
    by_class = np.argsort(labels[order], kind="stable")
    firsts = np.searchsorted(labels[order][by_class], labels[order][by_class])
    turns = np.empty_like(firsts)
    turns[by_class] = np.arange(len(order)) - firsts
    chosen = order[np.argsort(turns, kind="stable")][:count]
    result = np.full_like(labels, MISSING_LABEL)
    result[chosen] = labels[chosen]
    return result


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
