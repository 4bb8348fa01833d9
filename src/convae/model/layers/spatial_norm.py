"""Normalization whose gain and bias follow a feature at each position."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from convae.core.arguments import Positive, PositiveFloat
from convae.core.context import Context
from convae.core.types import Shape
from convae.model.layers.base import ContextLayer, FeatureMap, ReceptiveField, full_receptive_field, needs_axes
from convae.model.layers.base.features import feature_shape
from convae.model.layers.conv import Conv
from convae.model.layers.group_norm import GroupNorm


class SpatialNorm(ContextLayer):
    """Group norm with a gain and a bias from a feature at each position, as in MoVQ (Zheng et al. 2022).

    arXiv:2209.09002. The feature, the latent in MoVQ, is named by the layer `feature`; it is enlarged to the sizes of
    the input by repetition. Without it in the context it counts as zero.

    Args:
        shape: (channels, *sizes) with 1, 2 or 3 spatial axes; channels must be divisible by groups.
        feature: name of the feature.
        groups: number of groups.
        eps: added to the variance.
    """

    example: ClassVar = {"feature": "example", "groups": 2}
    over_positions: ClassVar = True
    keeps_shape = True

    def __init__(self, shape: Shape, *, feature: str, groups: Positive = 32, eps: PositiveFloat = 1e-6) -> None:
        super().__init__(shape)
        needs_axes(shape, 1, 2, 3)
        self.feature = feature
        self.beside = feature_shape(feature, None)[0]
        self.norm_layer = GroupNorm(shape, groups=groups, eps=eps)
        self.conv_y = Conv((self.beside, *shape[1:]), channels=shape[0], kernel=1)
        self.conv_b = Conv((self.beside, *shape[1:]), channels=shape[0], kernel=1)

    def forward(self, x: Tensor, context: Context | None = None) -> Tensor:
        """(batch, channel, *sizes) to the same shape."""
        beside = None if context is None else context.features.get(self.feature)
        if beside is None:
            beside = x.new_zeros(x.shape[0], self.beside, *x.shape[2:])
        beside = F.interpolate(beside.to(x.dtype), size=x.shape[2:], mode="nearest")
        return torch.addcmul(self.conv_b(beside), self.norm_layer(x), self.conv_y(beside))

    def compute_in_slices(self, x: FeatureMap, context: Context | None = None) -> FeatureMap:
        """One pass for the statistics of the entire image, then the rows with those of the feature."""
        normal = self.norm_layer.compute_in_slices(x, context)
        beside = None if context is None else context.features.get(self.feature)
        if beside is None:
            beside = torch.zeros(x.shape[0], self.beside, *(1,) * len(x.shape[2:]), device=self.conv_y.weight.device)
        feature = FeatureMap.of(x.sliced, beside, is_counted=False).resized_nearest(x.shape[2:])
        maps = [each.compute_in_slices(feature) for each in (self.conv_y, self.conv_b)]

        def modulate(part: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
            return torch.addcmul(bias, part, gain)

        return normal.joined(maps, modulate, x.shape[1])

    def receptive_field(self) -> ReceptiveField:
        """The entire input, because of the statistics."""
        return full_receptive_field(self.shape_in)
