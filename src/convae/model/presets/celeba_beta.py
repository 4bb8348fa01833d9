"""The β-VAE for CelebA at 128×128."""

from __future__ import annotations

import math
from typing import Any

from convae.core.arguments import ImageShape, Named, Positive
from convae.core.sizes import halvings, output_padding
from convae.model.mirror import raw_channels

FILTERS = (32, 64, 128, 256)


def celeba_beta(
    *, input: ImageShape = (3, 128, 128), latent: Positive = 256, likelihood: Named = "gaussian"
) -> dict[str, Any]:
    """Four stride-2 convolutions of 32 to 256 channels with ReLU, linear maps to and from the latent; no norms.

    The structure of the four CelebA models that differ only in β, for any input.

    Args:
        input: channels, then sizes.
        latent: dimension of the latent.
        likelihood: p(x | z).
    """
    sizes = halvings(input[1:], len(FILTERS))
    encoder: list[Any] = []
    for channels in FILTERS:
        encoder += [{"conv": {"channels": channels, "stride": 2}}, "relu"]
    decoder: list[Any] = [
        {"linear": {"features": FILTERS[-1] * math.prod(sizes[-1])}},
        "relu",
        {"unflatten": {"to": [FILTERS[-1], *sizes[-1]]}},
    ]
    for small, large, channels in zip(sizes[:0:-1], sizes[-2::-1], reversed(FILTERS), strict=True):
        added = output_padding(small, large, [2] * len(small))
        decoder += [{"conv-transpose": {"channels": channels, "stride": 2, "output_padding": added}}, "relu"]
    return {
        "input": input,
        "encoder": [*encoder, "flatten"],
        "bottleneck": {"gaussian": {"latent": latent}},
        "decoder": [*decoder, {"conv": {"channels": raw_channels(likelihood, input)}}],
        "likelihood": likelihood,
    }
