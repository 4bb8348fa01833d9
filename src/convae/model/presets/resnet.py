"""A residual network with most of its weights on a vector."""

from __future__ import annotations

import math
from typing import Any, Literal

from convae.core.arguments import ImageShape, Named, Positive
from convae.core.sizes import ceilings, limit_strides
from convae.model.mirror import raw_channels
from convae.model.presets._stages import downsampling, upsampling

SIZES = {"tiny": (32, 256, 1), "small": (64, 512, 2), "base": (128, 1024, 3)}
"""Channels, features of the vector, and number of residual blocks of each."""
SMALLEST = 8
"""Sizes are divided down to this size."""
STEM = 4
"""Stride of the first convolution for larger sizes; later ones have stride 2."""
REDUCTION = 4
"""Ratio of the channels of a convolutional residual block to those in its middle."""


def resnet(
    *,
    input: ImageShape = (3, 64, 64),
    latent: Positive = 64,
    size: Literal["tiny", "small", "base"] = "small",
    grid: Literal["global", "spatial"] = "global",
    likelihood: Named = "bernoulli",
) -> dict[str, Any]:
    """Convolutions of stride 4 and 2 to a small map, residual blocks on it and on a vector, SiLU; no norms.

    A linear layer needs two operations per weight and image, a convolution two per position, so that for equal cost
    most weights belong to the vector. Blocks that begin close to the identity need no norms (as in Child 2021,
    arXiv:2011.10650), which would remove the contrast of an image. Kernels of twice the stride cover all pixels
    equally. `benchmarks/presets.py` compares it with the other presets.

    Args:
        input: channels, then sizes.
        latent: dimension of the latent, or latent channels with a spatial grid.
        size: width and depth of the network.
        grid: `global` for a latent vector, `spatial` for a latent map without linear layers.
        likelihood: p(x | z).
    """
    channels, features, blocks = SIZES[size]
    sizes, strides = _trace(tuple(input[1:]))
    smallest = [channels, *sizes[-1]]
    middle = channels // REDUCTION
    convolutions = ({"channels": middle, "kernel": 1}, {"channels": middle}, {"channels": channels, "kernel": 1})
    map_blocks = [_block(*({"conv": given} for given in convolutions))] * blocks
    encoder: list[Any] = []
    for stride in strides:
        encoder += ["silu", downsampling(channels, stride)]
    encoder = [*encoder[1:], *map_blocks, "silu"]
    decoder: list[Any] = [{"conv": {"channels": channels}}]
    if grid == "global":
        dense = {"linear": {"features": features}}
        vector = [dense, *[_block(dense, dense)] * blocks, "silu"]
        encoder += ["flatten", *vector]
        decoder = [*vector, {"linear": {"features": math.prod(smallest)}}, {"unflatten": {"to": smallest}}]
    decoder += map_blocks
    outputs = [raw_channels(likelihood, input), *[channels] * (len(strides) - 1)]
    for large, small, out, stride in reversed([*zip(sizes, sizes[1:], outputs, strides, strict=False)]):
        decoder += ["silu", upsampling(out, small, large, stride)]
    return {
        "input": input,
        "encoder": encoder,
        "bottleneck": {"gaussian": {"latent": latent}},
        "decoder": decoder,
        "likelihood": likelihood,
    }


def _trace(sizes: tuple[int, ...]) -> tuple[list[tuple[int, ...]], list[list[int]]]:
    """The sizes before and after each convolution of the encoder, and the strides."""
    trace = [sizes]
    strides: list[list[int]] = []
    while not strides or max(trace[-1]) > SMALLEST:
        strides.append(limit_strides(STEM if max(sizes) > 2 * SMALLEST and not strides else 2, trace[-1]))
        trace.append(ceilings(trace[-1], strides[-1]))
    return trace, strides


def _block(*layers: dict[str, Any]) -> dict[str, Any]:
    """A residual block with an activation before each layer."""
    return {"residual": {"layers": [part for layer in layers for part in ("silu", layer)]}}
