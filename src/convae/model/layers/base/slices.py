"""Computation of large images in slices, with equal results.

    rows of the image   ├──── slice ────┼──── slice ────┼──── slice ────┤
    computed rows       ├──── slice ────┼─ halo ─┤
                               ├─ halo ─┼──── slice ────┼─ halo ─┤ ...

An output row depends on the input rows of its receptive field. A slice is computed with that many more rows on both
sides, and the affected output rows are dropped, so that the remaining rows equal those of the entire image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import accumulate, pairwise
from operator import mul

import torch
from torch import Tensor

from convae.core.context import Context
from convae.model.layers.base.layer import Layer, compose, run_layers


def sees_everything(layer: Layer) -> bool:
    """Whether an output of a layer may depend on the entire image, so that it cannot be computed in slices."""
    inner = (module for module in layer.modules() if isinstance(module, Layer))
    field = layer.receptive_field()
    return any(each.over_positions or not each.any_size for each in inner) or (
        field is not None and math.inf in field.kernel
    )


def in_slices(layers: Sequence[Layer], x: Tensor, rows: int, context: Context | None = None) -> Tensor:
    """Applies layers in sequence to about `rows` positions of the first spatial axis at a time.

    Args:
        layers: layers in evaluation mode with finite receptive fields.
        x: (batch, channel, *sizes).
        rows: rows of `x` per slice, without halo; rounded up to a multiple of the strides.
        context: forward context.

    Returns:
        (batch, channels, *other sizes), equal to the output for the entire `x`, up to rounding.
    """
    field = compose(layer.receptive_field() for layer in layers)
    if field is None:
        return run_layers(layers, x, context)
    # A slice begins at the start of an output row of every layer.
    strides = [_exact(seen.stride[0]) for layer in layers if (seen := layer.receptive_field()) is not None]
    totals = list(accumulate(strides, mul))
    step = math.lcm(*(total.numerator for total in totals))
    halo = step * math.ceil(field.kernel[0] / step)
    borders = [*range(0, x.shape[2], step * math.ceil(rows / step)), x.shape[2]]
    parts = []
    for start, end in pairwise(borders):
        first = max(0, start - halo)
        part = run_layers(layers, x[:, :, first : end + halo], context)
        last = None if end == x.shape[2] else int((end - first) / totals[-1])
        parts.append(part[:, :, int((start - first) / totals[-1]) : last].clone())
    return torch.cat(parts, 2)


def _exact(stride: float) -> Fraction:
    """Stride as a fraction: an integer or the inverse of one."""
    return Fraction(stride).limit_denominator(1 << 16)
