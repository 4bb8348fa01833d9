"""A hierarchical VAE: a ladder of latents from a small map to the image."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, Literal

from convae.core.arguments import ImageShape, Named, Positive
from convae.core.sizes import halvings
from convae.model.mirror import raw_channels
from convae.model.presets._stages import downsampling, upsampling

SIZES = {"tiny": (32, 1, 4), "small": (64, 2, 8), "base": (128, 3, 16)}
"""Channels, latents at each resolution, and latent channels of each."""
SMALLEST = 8
"""Sizes are halved down to this size; the top latent is a vector."""
BOTTLENECK = 2
"""Ratio of the channels of a residual block to those in its middle."""


def ladder(
    *,
    input: ImageShape = (1, 28, 28),
    latent: Positive = 32,
    size: Literal["tiny", "small", "base"] = "small",
    likelihood: Named = "bernoulli",
) -> dict[str, Any]:
    """Latents at several resolutions, drawn from the top down; each posterior is relative to its prior.

    In the style of ladder VAEs (Sønderby et al. 2016, arXiv:1602.02282), NVAE (Vahdat & Kautz 2020, arXiv:2007.03898)
    and very deep VAEs (Child 2021, arXiv:2011.10650): residual blocks on each resolution; the encoder's features at a
    resolution go to all latents of the decoder there. The top latent is a vector.

    Args:
        input: channels, then sizes; made for 28 to 64 pixels.
        latent: dimension of the top latent.
        size: width and depth of the network.
        likelihood: p(x | z).
    """
    channels, repeats, latent_channels = SIZES[size]
    sizes = _resolutions(tuple(input[1:]))
    encoder: list[Any] = []
    for level, (large, small) in enumerate(pairwise(sizes)):
        stride = [-(-before // after) for before, after in zip(large, small, strict=True)]
        encoder += [] if level == 0 else ["silu"]
        encoder += [downsampling(channels, stride)]
        encoder += [_block(channels)] * repeats
        encoder += [{"feature": {"name": _name(small)}}]
    top = [channels, *sizes[-1]]
    encoder += ["silu", "flatten"]
    decoder: list[Any] = [{"linear": {"features": math.prod(top)}}, {"unflatten": {"to": top}}]
    for level in range(len(sizes) - 1, 0, -1):
        small, large = sizes[level], sizes[level - 1]
        drawn = {"channels": latent_channels, "feature": _name(small)}
        inner = {
            "prior": [_block(channels)],
            "posterior": [{"conv": {"channels": channels, "kernel": 1}}, _block(channels)],
        }
        decoder += [{"latent": {**drawn, **inner}}, _block(channels)] * repeats
        stride = [-(-before // after) for before, after in zip(large, small, strict=True)]
        out = channels if level > 1 else raw_channels(likelihood, input)
        decoder += ["silu", upsampling(out, small, large, stride)]
    return {
        "input": input,
        "encoder": encoder,
        "bottleneck": {"gaussian": {"latent": latent}},
        "decoder": decoder,
        "likelihood": likelihood,
    }


def _resolutions(sizes: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The sizes of the image and of each resolution below it."""
    found = [sizes]
    while len(found) < 3 or max(found[-1]) > SMALLEST:
        found.append(tuple(halvings(found[-1], 1)[1]))
    return found


def _name(sizes: tuple[int, ...]) -> str:
    """The name of the features of a resolution."""
    return "×".join(map(str, sizes))


def _block(channels: int) -> dict[str, Any]:
    """A residual block with fewer channels in the middle."""
    middle = max(1, channels // BOTTLENECK)
    layers = ["silu", {"conv": {"channels": middle}}, "silu", {"conv": {"channels": channels}}]
    return {"residual": {"layers": layers}}
