"""Quantization of feature maps inside a list of layers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from convae.core.context import Context
from convae.core.types import Shape
from convae.model.layers.base import ContextLayer
from convae.model.quantizers.base import QuantizerEntry, build_quantizer, is_quantizer


class Quantize(ContextLayer):
    """Replaces the vector at each position by codes of a quantizer; reports the codes as a latent of the model.

    A quantizer's name is short for the argument: `{fsq: {levels: [8, 8, 8]}}` is `{quantizer: {fsq: …}}`.

    Args:
        shape: (channels, *sizes).
        quantizer: maps vectors to codes.
    """

    example: ClassVar = {"quantizer": {"vq": {"codes": 4, "dead_code_threshold": 0.0}}}
    over_positions: ClassVar = True  # it reports the codes of the entire image
    keeps_shape: ClassVar = True
    recomputes: ClassVar = False

    def __init__(self, shape: Shape, *, quantizer: QuantizerEntry) -> None:
        super().__init__(shape)
        self.quantizer = build_quantizer(quantizer, shape[0])

    @classmethod
    def expand_arguments(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Expands `{NAME: arguments}` with the name of a quantizer."""
        if len(given) == 1 and is_quantizer(next(iter(given))):
            return {"quantizer": dict(given)}
        return given

    def forward(self, x: Tensor, context: Context | None = None) -> Tensor:
        """(batch, channels, *sizes) of code vectors."""
        codes: Tensor = self.quantizer(x, context, self.stream)
        return codes.to(x.dtype)

    def rescale_usage(self, batch_size: int) -> None:
        """Adapts usage statistics of the codebooks to a global batch size; see `Quantizer.rescale_usage`."""
        self.quantizer.rescale_usage(batch_size * math.prod(self.shape_in[1:]))

    def reset(self, generator: torch.Generator) -> None:
        """Initializes the quantizer."""
        self.quantizer.reset(generator)
