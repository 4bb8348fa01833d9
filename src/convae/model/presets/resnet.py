"""A residual network that spends its operations where positions are few."""

from __future__ import annotations

import math
from typing import Any, Literal

from convae.core.arguments import ImageShape, Named, Positive
from convae.model.mirror import enlarged, halvings, raw_channels

SIZES = {"tiny": (16, 1, False), "small": (32, 2, False), "base": (64, 2, True)}
"""Channels of the first map, residual blocks for each size of map, and whether the smallest map attends."""
SMALLEST = 8
"""Sizes are halved until none is larger."""
MOST = 4
"""Channels are doubled with each halving after the first, up to this many times the first."""
CHANNELS_OF_GROUP = 4
"""In each group of a norm of the first map; later maps have as many groups."""


def resnet(
    *,
    input: ImageShape = (3, 64, 64),
    latent: Positive = 64,
    size: Literal["tiny", "small", "base"] = "small",
    grid: Literal["global", "spatial"] = "global",
    likelihood: Named = "bernoulli",
) -> dict[str, Any]:
    """Pre-activation residual blocks with group norm and SiLU at half the input's size and below.

    The full-size maps see one convolution each way: a stride-2 4-convolution in front and a sub-pixel convolution
    at the end, so that nearly all operations happen where each counts for many pixels.

    Args:
        input: channels, then sizes.
        latent: latent values, or latent channels with a spatial grid.
        size: how wide and deep the network is.
        grid: `global` for a latent vector, `spatial` for a latent map.
        likelihood: what the decoder's values mean.
    """
    width, blocks, attends = SIZES[size]
    times = 1
    while max(halvings(input[1:], times)[-1]) > SMALLEST:
        times += 1
    sizes = halvings(input[1:], times)
    widths = [width * min(2**step, MOST) for step in range(times)]
    norm = {"group-norm": {"groups": width // CHANNELS_OF_GROUP}}
    attention = [{"attention": {"heads": 4, "norm": norm}}] if attends else []

    def stage(channels: int) -> list[Any]:
        return [{"residual-block": {"channels": channels, "norm": norm}}] * blocks

    encoder: list[Any] = [{"conv": {"channels": width, "kernel": 4, "stride": 2}}, *stage(width)]
    for channels in widths[1:]:
        encoder += [{"conv": {"channels": channels, "stride": 2}}, *stage(channels)]
    encoder += [*attention, norm, "silu"]
    decoder: list[Any] = [{"conv": {"channels": widths[-1]}}]
    if grid == "global":
        encoder.append("flatten")
        features = math.prod((widths[-1], *sizes[-1]))
        decoder = [{"linear": {"features": features}}, {"unflatten": {"to": [widths[-1], *sizes[-1]]}}]
    decoder += [*attention, *stage(widths[-1])]
    for step in range(times - 1, 0, -1):
        channels = widths[step - 1]
        decoder += [enlarged(sizes[step + 1], sizes[step], 2), {"conv": {"channels": channels}}, *stage(channels)]
    return {
        "input": input,
        "encoder": encoder,
        "bottleneck": {"gaussian": {"latent": latent}},
        "decoder": [*decoder, norm, "silu", *_last(sizes[1], sizes[0], raw_channels(likelihood, input))],
        "likelihood": likelihood,
    }


def _last(small: tuple[int, ...], large: tuple[int, ...], channels: int) -> list[Any]:
    """To the input's size and channels: sub-pixels, cut to size where it is odd."""
    if all(2 * little == big for little, big in zip(small, large, strict=True)):
        return [{"conv": {"channels": channels * 2 ** len(small)}}, {"pixel-shuffle": {"scale": 2}}]
    return [{"resize": {"to": list(large)}}, {"conv": {"channels": channels}}]
