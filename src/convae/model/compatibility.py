"""Whether data goes with a model: the classes of labels, and the levels of pixel values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from convae.core.errors import ConfigError
from convae.model.vae import VAE


def check_labels(
    model: VAE,
    labels: Sequence[int] | NDArray[np.int64] | None,
    whose: str,
    classes: Sequence[str] | None = None,
) -> None:
    """Checks, once for many images, that their labels mean what they mean to a model that knows classes.

    Args:
        model: that will get them.
        labels: of the images, -1 where one is missing.
        whose: they are, for the message.
        classes: the names of the labels' classes, where they have names.

    Raises:
        ConfigError: the model is conditional, and there are no labels, or a label is missing or no class; or the
            classes of a model that knows some have other names.
    """
    own = model.provenance.classes or ()
    knows_classes = model.condition is not None or model.classifier is not None
    if knows_classes and any(first != second for first, second in zip(own, classes or (), strict=False)):
        raise ConfigError(
            f"model '{model.name}' numbers its classes {', '.join(own)}, and {whose} {', '.join(classes or ())}: "
            "convae.data.match_classes(split, model.provenance.classes) numbers them alike"
        )
    if model.condition is None:
        return
    known = model.condition.classes
    if labels is None:
        raise ConfigError(f"model '{model.name}' is conditional and needs labels, but {whose} has none")
    if missing := int((np.asarray(labels) < 0).sum()):
        raise ConfigError(f"model '{model.name}' is conditional, but {missing:,} images of {whose} have no label")
    if (largest := int(np.max(labels))) >= known:
        raise ConfigError(f"model '{model.name}' knows the classes 0 to {known - 1}, but {whose} has {largest}")


def check_levels(model: VAE, levels: int | None, whose: str) -> None:
    """Checks, once for many images, that a likelihood of levels has a probability for each level of theirs.

    Args:
        model: that will get them.
        levels: that a value of an image can have, evenly spaced from 0 to 1; None for floats.
        whose: they are, for the message.

    Raises:
        ConfigError: the likelihood is discrete, and the images have levels between its own, or are floats.
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
