"""Flattening of feature maps."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from convae.model.inputs import is_transformed
from convae.model.layers.base import Layer, ReceptiveField, full_receptive_field

_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


class Flatten(Layer):
    """Flattens channels and sizes to a vector of features."""

    any_size: ClassVar = False

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channel, *sizes) to (batch, features)."""
        layout = _CHANNELS_LAST.get(x.ndim)
        if layout is None or x.device.type != "cpu" or not x.requires_grad or is_transformed():
            return x.flatten(1)
        if x.is_contiguous(memory_format=layout) and not x.is_contiguous():
            x = _GradientLayout.apply(x, layout)  # type: ignore[no-untyped-call]  # untyped in torch
        return x.flatten(1)

    def receptive_field(self) -> ReceptiveField:
        """The entire input."""
        return full_receptive_field(self.shape_in)


class _GradientLayout(torch.autograd.Function):
    """A feature map as it is, with a gradient in its memory layout.

    The gradient of the features is contiguous, and operations on tensors of two layouts are slow: an activation's
    gradient took 14 times as long.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, layout: torch.memory_format) -> Tensor:
        ctx.layout = layout
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        return gradient.contiguous(memory_format=ctx.layout), None
