"""The classes that a person names: those of labelled images, and those that a conditional model draws."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from convae.core.errors import ConfigError
from convae.core.names import called, unknown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from convae.data import Split
    from convae.model.vae import VAE


def classes_of(images: Split, column: str | None = None) -> tuple[NDArray[np.int64], dict[int, str]]:
    """(images,) class numbers of a split's images, -1 where one is missing, and what the classes are called.

    Args:
        images: the split.
        column: which of the things known of the images; otherwise their label.

    Raises:
        ConfigError: the images have no labels, or no such column.
    """
    values, names = images.labels, images.classes
    if column is not None:
        if column not in images.columns:
            raise ConfigError(f"{images.source}: {unknown('column', column, images.columns or ['nothing'])}")
        values, names = images.columns[column].values, images.columns[column].classes
    if values is None:
        raise ConfigError(f"the images of {images.source} have no labels: give --having and --without")
    return values, called(sorted({int(value) for value in values if value >= 0}), names)


def class_number(word: str, called: Mapping[int, str]) -> int:
    """The number of the class that a person names or numbers.

    Raises:
        ConfigError: there is no such class.
    """
    named = [number for number, name in called.items() if name == word]
    if named or (word.isdecimal() and int(word) in called):
        return named[0] if named else int(word)
    raise ConfigError(unknown("class", word, list(called.values())))


def wanted_class(model: VAE, label: str | None) -> int | None:
    """The number of the class that a conditional model is asked to draw; None where nobody asks.

    Raises:
        ConfigError: the model is not conditional, or knows no such class.
    """
    if label is None:
        return None
    if model.condition is None:
        raise ConfigError(f"--label: model '{model.name}' is not conditional, so it draws no image as another class")
    return class_number(label, _drawable(model))


def needed_class(model: VAE, label: str | None) -> int | None:
    """`wanted_class`, where latents of no image in particular are drawn, whose class somebody has to say.

    Raises:
        ConfigError: as `wanted_class`, or the model is conditional and there is no label.
    """
    if label is None and model.condition is not None:
        raise ConfigError(f"model '{model.name}' is conditional: --label says as which class its latents are drawn")
    return wanted_class(model, label)


def drawn_as(model: VAE, wanted: int | None) -> str:
    """What a title says of the class that images are drawn as; nothing, where none is asked for."""
    return "" if wanted is None else f", drawn as {_drawable(model)[wanted]}"


def _drawable(model: VAE) -> dict[int, str]:
    """What the classes that a conditional model can draw are called."""
    assert model.condition is not None  # whoever asks has seen to it
    return called(range(model.condition.classes), model.metadata.get("classes"))
