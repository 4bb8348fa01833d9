"""Squeeze-and-excitation."""

from __future__ import annotations

from torch import Tensor

from convae.core.arguments import Positive
from convae.core.context import Context
from convae.core.types import Shape
from convae.model.layers.base import FeatureMap, Layer, Network, ReceptiveField, full_receptive_field, needs_axes
from convae.model.layers.base.statistics import group_statistics


class SqueezeExcitation(Layer):
    """Squeeze-and-excitation: scales each channel by a gate computed from the channel means (Hu et al. 2018).

    Args:
        shape: (channels, *sizes) with 1, 2 or 3 spatial axes.
        reduction: the gate of arXiv:1709.01507 has channels / reduction hidden features, at least one.
    """

    keeps_shape = True

    def __init__(self, shape: Shape, *, reduction: Positive = 16) -> None:
        super().__init__(shape)
        needs_axes(shape, 1, 2, 3)
        hidden = max(1, shape[0] // reduction)
        layers = [{"linear": {"features": hidden}}, "silu", {"linear": {"features": shape[0]}}, "sigmoid"]
        self.gate = Network(shape[:1], layers, "gate")

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channel, *sizes) to the same shape."""
        gate: Tensor = self.gate(x.flatten(2).mean(2))
        return x * gate.view(*gate.shape, *(1,) * (x.ndim - 2))

    def compute_in_slices(self, x: FeatureMap, context: Context | None = None) -> FeatureMap:
        """One pass for the channel means of the entire image, then the rows."""
        mean = group_statistics(x, x.shape[1])[0].to(next(self.gate.parameters()))
        gate = self.gate(mean).view(*x.shape[:2], *(1,) * (len(x.shape) - 2))
        return x.pointwise(lambda part: part * gate)

    def receptive_field(self) -> ReceptiveField:
        """The entire input, because of the means."""
        return full_receptive_field(self.shape_in)
