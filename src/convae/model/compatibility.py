"""Checks that data fits a model: class numbers of labels, levels of pixel values, and the fill of missing ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from convae.core.errors import ConfigError
from convae.core.names import count_text
from convae.model.layers.observed_mask import ObservedMask
from convae.model.vae import VAE


def check_labels(
    model: VAE,
    labels: Sequence[int] | NDArray[np.int64] | None,
    whose: str,
    classes: Sequence[str] | None = None,
    remedy: str = "Renumber the labels with convae.data.match_classes(split, model.provenance.classes)",
) -> None:
    """Checks that the labels of a data set match the classes of a model.

    Args:
        model: the model that the images are for.
        labels: class numbers of the images, -1 where one is missing.
        whose: name of the data, for the message.
        classes: names of the labels' classes, if known.
        remedy: what to do if they are others.

    Raises:
        ConfigError: a conditional model gets images without a label, or a label that is not one of its classes; or
            the class names differ from the model's.
    """
    own = model.provenance.classes or ()
    knows_classes = model.condition is not None or model.classifier is not None
    if knows_classes and any(first != second for first, second in zip(own, classes or (), strict=False)):
        raise ConfigError(
            f"model '{model.name}' has the classes {', '.join(own)}, but {whose} has {', '.join(classes or ())}. "
            f"{remedy}"
        )
    if model.condition is None:
        return
    known = model.condition.classes
    if labels is None:
        raise ConfigError(f"model '{model.name}' is conditional and needs labels, but {whose} has none")
    if missing := int((np.asarray(labels) < 0).sum()):
        raise ConfigError(
            f"model '{model.name}' is conditional, but {whose} has {count_text(missing, 'image')} without a label"
        )
    if (largest := int(np.max(labels))) >= known:
        raise ConfigError(f"model '{model.name}' has the classes 0 to {known - 1}, but {whose} has {largest}")


def check_levels(model: VAE, levels: int | None, whose: str) -> None:
    """Checks that a discrete likelihood assigns a probability to every level of the images.

    Args:
        model: the model that the images are for.
        levels: number of evenly spaced levels in [0, 1] of a pixel value; None for floats.
        whose: name of the data, for the message.

    Raises:
        ConfigError: the likelihood is discrete, and the images have other levels or are floats.
    """
    own = model.head.levels
    if own is None or (levels is not None and (own - 1) % (levels - 1) == 0):
        return
    kind = "floats, which have no levels" if levels is None else f"{levels:,} levels"
    remedy = "" if levels is None else f"likelihood: {{discretized-logistic: {{levels: {levels}}}}}, or "
    raise ConfigError(
        f"model '{model.name}': its likelihood is a probability of {own:,} levels, but the values of {whose} are "
        f"{kind}: choose {remedy}a density, such as likelihood: gaussian"
    )


def check_fill(model: VAE, fill: float | None, whose: str) -> None:
    """Checks that masks of observed values recognize the missing ones.

    Args:
        model: the model that the images are for.
        fill: what the images have in place of a missing value; None if all are observed.
        whose: name of the data, for the message.

    Raises:
        ConfigError: a layer `observed-mask` looks for another value.
    """
    if fill is None:
        return
    for name, layer in model.named_modules():
        if isinstance(layer, ObservedMask) and layer.fill != fill:
            raise ConfigError(
                f"model '{model.name}', {name} (observed-mask): missing values of {whose} are {fill:g}, but the layer "
                f"expects {layer.fill:g}. Set data.fill={layer.fill:g}"
            )
