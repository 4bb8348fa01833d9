"""The classes that a person names: those of labelled images, and those that a conditional model draws."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from convae.core.errors import ConfigError
from convae.core.names import class_names, unknown
from convae.core.notes import note

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
    return values, class_names(sorted({int(value) for value in values if value >= 0}), names)


def class_number(word: str, names: Mapping[int, str]) -> int:
    """The number of the class that a person names or, where no other class is named like a number, numbers.

    Raises:
        ConfigError: there is no such class.
    """
    named = [number for number, name in names.items() if name == word]
    if named:
        return named[0]
    are_numbers = any(name.isdecimal() and int(name) != number for number, name in names.items())
    if word.isdecimal() and int(word) in names and not are_numbers:
        return int(word)
    raise ConfigError(unknown("class", word, list(names.values())))


def wanted_class(model: VAE, label: str | None) -> int | None:
    """The number of the class that a conditional model is asked to draw; None where nobody asks.

    Raises:
        ConfigError: the model is not conditional, or knows no such class.
    """
    if label is None:
        return None
    if model.condition is None:
        raise ConfigError(f"--label: model '{model.name}' is not conditional: it takes no class, so leave it out")
    return class_number(label, _drawable(model))


def with_model_classes(model: VAE, images: Split, label: int | None = None, *, must_fill: bool = False) -> Split:
    """Images whose labels are numbered as the model's classes: matched by name, as data sets number what they hold.

    Args:
        model: the model.
        images: the images.
        label: the class of those that have none, for a conditional model.
        must_fill: whether the label is for nothing else.

    Raises:
        ConfigError: the model is conditional, and the class of an image is not known, or the label is for none of them.
    """
    import numpy as np

    from convae.data import match_classes

    names = _model_classes(model)
    needs_classes = model.condition is not None or model.classifier is not None
    if names is not None:
        images, others = match_classes(images, names, extend=not needs_classes)
        if others and needs_classes:
            listed = ", ".join(f"'{name}' ({count:,} images)" for name, count in others.items())
            meaning = f"no classes of model '{model.name}', whose classes are {', '.join(names)}"
            what = "counts as unlabelled" if label is None else f"is taken for {names[label]}"
            note(f"{images.source}: {listed}: {meaning}; each {what}", "yellow")
    if model.condition is None:
        return images
    labels = np.full(len(images), -1) if images.labels is None else images.labels
    if missing := int((labels < 0).sum()):
        if label is None:
            raise ConfigError(
                f"model '{model.name}' is conditional, and {missing:,} of {len(images):,} images of {images.source} "
                f"have no label that it knows: --label says what class they are of: {', '.join(names or ())}"
            )
        images = images.with_labels(np.where(labels < 0, label, labels), tuple(names or ()))
    elif label is not None and must_fill:
        raise ConfigError(f"--label: every image of {images.source} has a label of its own, so leave it out")
    return images


def _model_classes(model: VAE) -> list[str] | None:
    """The names of a model's classes, or their numbers where they have none; None where it knows nothing of classes."""
    names = model.metadata.get("classes")
    if names:
        return [str(name) for name in names]
    if model.condition is not None:
        return [str(number) for number in range(model.condition.classes)]
    if model.classifier is not None:
        return [str(number) for number in range(model.classifier.shape_out[0])]
    return None


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
    return class_names(range(model.condition.classes), model.metadata.get("classes"))
