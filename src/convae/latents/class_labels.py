"""Classes by name or number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from convae.core.errors import ConfigError
from convae.core.names import class_names, unknown_message
from convae.data import Split
from convae.model.vae import VAE


def read_labels(images: Split, column: str | None = None) -> tuple[NDArray[np.int64], dict[int, str]]:
    """Class numbers of the images of a split, (image,), -1 if missing, and the class names.

    Args:
        images: the split.
        column: a column of the images; by default their label.

    Raises:
        ConfigError: the images have no labels, or no such column.
    """
    values, names = images.labels, images.classes
    if column is not None:
        if column not in images.columns:
            raise ConfigError(f"{images.source}: {unknown_message('column', column, images.columns or ['nothing'])}")
        values, names = images.columns[column].values, images.columns[column].classes
    if values is None:
        raise ConfigError(f"the images of {images.source} have no labels")
    return values, class_names(sorted({int(value) for value in values if value >= 0}), names)


def class_number(word: str, names: Mapping[int, str]) -> int:
    """The number of a class, from its name or, if that is unambiguous, from its number.

    Raises:
        ConfigError: unknown class.
    """
    named = [number for number, name in names.items() if name == word]
    if named:
        return named[0]
    are_numbers = any(name.isdecimal() and int(name) != number for number, name in names.items())
    if word.isdecimal() and int(word) in names and not are_numbers:
        return int(word)
    raise ConfigError(unknown_message("class", word, list(names.values())))


def sampled_classes(model: VAE, count: int, names: Sequence[str] | None) -> list[str] | None:
    """The classes of the images of `model.sample(count)`, by name: all in turn; None if the model is not conditional.

    Args:
        model: the model.
        count: number of images.
        names: class names by number; numbers without them.
    """
    if model.condition is None:
        return None
    classes = model.condition.classes
    words = class_names(range(classes), names)
    return [words[number % classes] for number in range(count)]
