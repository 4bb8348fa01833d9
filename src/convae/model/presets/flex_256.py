"""The example structure of FlexVAE."""

from __future__ import annotations

import math
from typing import Any

from convae.core.arguments import ImageShape, Named, Positive
from convae.core.sizes import ceilings, limit_strides
from convae.model.mirror import enlarging_layer, raw_channels

STRIDE = 4


def flex_256(
    *,
    input: ImageShape = (3, 256, 256),
    latent: Positive = 4,
    width: Positive = 128,
    likelihood: Named = {"gaussian": {"link": "identity"}},  # noqa: B006  # never changed
) -> dict[str, Any]:
    """Residual blocks and attention around two stride-4 convolutions, with a latent map of 1/16 of the size.

    The encoder and decoder lists of FlexVAE's example, for any input.

    Args:
        input: channels, then sizes.
        latent: channels of the latent map.
        width: channels of the first layer; later ones have two and four times as many.
        likelihood: p(x | z).
    """
    groups = math.gcd(32, width)
    norm = {"group-norm": {"groups": groups}}
    sizes = [tuple(input[1:])]
    for _ in range(2):
        sizes.append(ceilings(sizes[-1], [STRIDE] * len(sizes[-1])))

    def block(channels: int) -> dict[str, Any]:
        return {"residual-block": {"channels": channels, "norm": norm}}

    def down(channels: int, before: tuple[int, ...]) -> dict[str, Any]:
        # Without padding if the stride divides the sizes, as in the original; the sizes are equal in both cases.
        padding: Any = "same" if any(size % STRIDE for size in before) else 0
        return {"conv": {"channels": channels, "stride": limit_strides(STRIDE, before), "padding": padding}}

    attention = {"attention": {"norm": norm}}
    two, four, out = 2 * width, 4 * width, raw_channels(likelihood, input)
    return {
        "input": input,
        "encoder": [
            *[{"conv": {"channels": width}}, block(width), block(width), down(width, sizes[0])],
            *[block(two), block(two), down(two, sizes[1])],
            *[block(two), block(two), block(two), attention, block(two), norm, "silu"],
            *[{"conv": {"channels": 2 * latent}}, {"conv": {"channels": 2 * latent, "kernel": 1}}],
        ],
        "bottleneck": {"gaussian": {"latent": latent, "head": False}},
        "decoder": [
            *[{"conv": {"channels": latent, "kernel": 1}}, {"conv": {"channels": four}}],
            *[block(four), attention, *[block(four)] * 4],
            *[enlarging_layer(sizes[2], sizes[1], STRIDE), {"conv": {"channels": four}}, *[block(two)] * 3],
            *[enlarging_layer(sizes[1], sizes[0], STRIDE), {"conv": {"channels": two}}, *[block(width)] * 3],
            *[norm, "silu", {"conv": {"channels": out}}],
        ],
        "likelihood": likelihood,
    }
