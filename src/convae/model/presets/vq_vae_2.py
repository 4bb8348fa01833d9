"""A VQ-VAE-2: two levels of codes."""

from __future__ import annotations

from typing import Any

from convae.core.arguments import ImageShape, Named, Positive
from convae.core.sizes import halvings, limit_strides
from convae.model.mirror import raw_channels
from convae.model.presets._stages import downsampling, upsampling

BLOCKS = 2
"""Residual blocks in each part of the network."""


def vq_vae_2(
    *,
    input: ImageShape = (3, 64, 64),
    channels: Positive = 128,
    codes: Positive = 512,
    latent: Positive = 64,
    likelihood: Named = "gaussian",
) -> dict[str, Any]:
    """Two levels of codes: a coarse map for the whole, a map of twice its size for details (Razavi et al. 2019).

    arXiv:1906.00446. The coarse codes are the bottleneck, at an eighth of the image's size; the fine codes are taken in
    the decoder, at a quarter, from the encoder's features and what the coarse codes decode to.

    Args:
        input: channels, then sizes.
        channels: of the features.
        codes: codebook size of each level.
        latent: dimension of the codes.
        likelihood: what the decoder's values mean.
    """
    sizes = halvings(tuple(input[1:]), 3)
    half, middle = max(1, channels // 2), max(1, channels // 4)

    def down(level: int, width: int) -> dict[str, Any]:
        return downsampling(width, limit_strides(2, sizes[level]))

    def up(level: int, width: int) -> dict[str, Any]:
        return upsampling(width, sizes[level + 1], sizes[level], limit_strides(2, sizes[level]))

    inner = ["relu", {"conv": {"channels": middle}}, "relu", {"conv": {"channels": channels, "kernel": 1}}]
    blocks = [{"conv": {"channels": channels}}, *[{"residual": {"layers": inner}}] * BLOCKS, "relu"]
    book = {"codes": codes}
    return {
        "input": input,
        "encoder": [
            *[down(0, half), "relu", down(1, channels), "relu", *blocks, {"feature": {"name": "fine"}}],
            *[down(2, channels), "relu", *blocks],
        ],
        "bottleneck": {"vq": {**book, "latent": latent}},
        "decoder": [
            *[*blocks, up(2, channels)],
            {"latent-codes": {"channels": latent, "feature": "fine", "quantizer": {"vq": book}}},
            *[*blocks, up(1, half), "relu", up(0, raw_channels(likelihood, input))],
        ],
        "likelihood": likelihood,
    }
