"""Layers over an image that is too large to be computed at once: slice by slice, with equal results.

    rows of the image   ├──── slice ────┼──── slice ────┼──── slice ────┤
    what is computed    ├──── slice ────┼─ halo ─┤
                               ├─ halo ─┼──── slice ────┼─ halo ─┤ ...

An output row depends on as many input rows as the receptive field has. A slice is computed with that many rows more on
both sides, and what the cut has made wrong is left out: what stays are the rows that the whole image gives.
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
    """Whether an output of a layer may depend on the whole image, so that slices of it give something else."""
    inner = (module for module in layer.modules() if isinstance(module, Layer))
    field = layer.receptive_field()
    return any(each.over_positions or not each.any_size for each in inner) or (
        field is not None and math.inf in field.kernel
    )


def in_slices(layers: Sequence[Layer], x: Tensor, rows: int, context: Context | None = None) -> Tensor:
    """What layers in a row make of `x`, computed for about `rows` positions of the first spatial axis at a time.

    Args:
        layers: in evaluation mode, none of which sees everything.
        x: (batch, channel, *sizes).
        rows: of `x` in a slice, without its halo; rounded up to what the strides need.
        context: of the pass.

    Returns:
        (batch, channels, *other sizes), equal to what the layers make of the whole of `x`, up to rounding.
    """
    field = compose(layer.receptive_field() for layer in layers)
    if field is None:
        return run_layers(layers, x, context)
    # A slice begins where a row of every layer's output does.
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
    """Input rows from one output row to the next: a whole number, or one divided by a whole number."""
    return Fraction(stride).limit_denominator(1 << 16)
