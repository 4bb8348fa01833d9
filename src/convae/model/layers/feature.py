"""A name for features of the encoder."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from convae.core.context import Context
from convae.core.types import Shape
from convae.model.layers.base import ContextLayer
from convae.model.layers.base.features import name_feature


class Feature(ContextLayer):
    """Names its input as a feature for layers of the decoder, and returns it unchanged.

    Args:
        shape: (channels, *sizes).
        name: unique in the model.

    Raises:
        ConfigError: another feature has that name.
    """

    example: ClassVar = {"name": "example"}
    over_positions: ClassVar = True  # a feature covers the entire image, so it is not computed in slices
    keeps_shape: ClassVar = True

    def __init__(self, shape: Shape, *, name: Annotated[str, Field(min_length=1, max_length=64)]) -> None:
        super().__init__(shape)
        name_feature(name, shape)
        self.name = name

    def forward(self, x: Tensor, context: Context | None = None) -> Tensor:
        """`x`, (batch, channel, *sizes), recorded in the context."""
        if context is not None:
            context.features[self.name] = x
        return x
