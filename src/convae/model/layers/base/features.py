"""The shapes of named encoder features, known while a model is built.

The layer `feature` names its input; layers of the decoder receive it by that name through the forward context. Layers
are built for their input shapes, so the shape of a feature must be known before the decoder is built.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar

from convae.core.errors import ConfigError, ShapeError
from convae.core.names import shape_text, unknown_message
from convae.core.types import Shape

_SHAPES: ContextVar[dict[str, Shape] | None] = ContextVar("feature shapes", default=None)


@contextlib.contextmanager
def feature_shapes(known: Mapping[str, Shape] | None = None) -> Iterator[dict[str, Shape]]:
    """Collects the shapes of the features that layers name inside the block.

    Networks that are built in one block know each other's features: build the encoder first, then the decoder.

    Args:
        known: (channels, *sizes) of features by name, for encoders that are not a `Network`.
    """
    shapes = dict(known or {})
    token = _SHAPES.set(shapes)
    try:
        yield shapes
    finally:
        _SHAPES.reset(token)


def name_feature(name: str, shape: Shape) -> None:
    """Records the shape of a feature, inside `feature_shapes`.

    Raises:
        ConfigError: another feature has that name.
    """
    shapes = _SHAPES.get()
    if shapes is None:
        return
    if name in shapes:
        raise ConfigError(f"duplicate feature '{name}'. Give each feature a unique name")
    shapes[name] = shape


def feature_shape(name: str, state: Shape | None) -> Shape:
    """The shape of a feature, (channels, *sizes), for a layer of the decoder.

    Args:
        name: of the feature.
        state: (channels, *sizes) of the decoder's state, whose sizes the feature must have; None for any sizes.

    Raises:
        ConfigError: no feature has that name.
        ShapeError: the feature has other sizes.
    """
    shapes = _SHAPES.get() or {}
    if name not in shapes:
        hint = "" if shapes else ". Name one in the encoder with the layer feature"
        raise ConfigError(unknown_message("feature", name, sorted(shapes)) + hint)
    if state is not None and shapes[name][1:] != state[1:]:
        raise ShapeError(
            f"the feature '{name}' has the shape {shape_text(shapes[name])}, but the state of the decoder has "
            f"{shape_text(state)}. Use a feature of the same sizes"
        )
    return shapes[name]
