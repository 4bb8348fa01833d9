"""The structure of the autoencoder of latent diffusion at factor 8."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import Field

from convae.core.arguments import ImageShape, Named, Positive
from convae.core.sizes import halvings
from convae.model.mirror import enlarging_layer, raw_channels


def sd_f8(
    *,
    input: ImageShape = (3, 256, 256),
    latent: Positive = 4,
    width: Positive = 128,
    multipliers: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1, 2, 4, 4),
    blocks: Annotated[int, Field(gt=0, le=1_000)] = 2,
    likelihood: Named = {"gaussian": {"link": "identity"}},  # noqa: B006  # never changed
) -> dict[str, Any]:
    """Residual blocks with three downsamplings and attention, with a latent map of 1/8 of the size.

    After Rombach et al. 2021 (arXiv:2112.10752), layer by layer like `AutoencoderKL` of diffusers.

    Args:
        input: channels, then sizes.
        latent: channels of the latent map.
        width: base number of channels.
        multipliers: channels of each stage, as multiples of `width`; sizes are halved between stages.
        blocks: residual blocks per stage of the encoder; the decoder has one more.
        likelihood: p(x | z).
    """
    norm = {"group-norm": {"groups": math.gcd(32, width), "eps": 1e-6}}
    sizes = halvings(input[1:], len(multipliers) - 1)

    def stage(multiplier: int, count: int) -> list[Any]:
        return [{"residual-block": {"channels": multiplier * width, "norm": norm}}] * count

    middle = [*stage(multipliers[-1], 1), {"attention": {"norm": norm}}, *stage(multipliers[-1], 1)]
    encoder: list[Any] = [{"conv": {"channels": width}}]
    decoder: list[Any] = [
        {"conv": {"channels": latent, "kernel": 1}},
        {"conv": {"channels": multipliers[-1] * width}},
        *middle,
    ]
    for step, multiplier in enumerate(multipliers):
        encoder += stage(multiplier, blocks)
        if step < len(multipliers) - 1:
            encoder.append({"conv": {"channels": multiplier * width, "stride": 2, "padding": "keras"}})
    for step, multiplier in reversed(list(enumerate(multipliers))):
        decoder += stage(multiplier, blocks + 1)
        if step:
            decoder += [enlarging_layer(sizes[step], sizes[step - 1], 2), {"conv": {"channels": multiplier * width}}]
    features = 2 * latent
    return {
        "input": input,
        "encoder": [
            *encoder,
            *middle,
            *[norm, "silu", {"conv": {"channels": features}}, {"conv": {"channels": features, "kernel": 1}}],
        ],
        "bottleneck": {"gaussian": {"latent": latent, "head": False}},
        "decoder": [*decoder, norm, "silu", {"conv": {"channels": raw_channels(likelihood, input)}}],
        "likelihood": likelihood,
    }
