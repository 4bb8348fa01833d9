"""The network of an `arch_def` dictionary for faces at 512×512."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import Field

from convae.core.arguments import ImageShape, Named, Positive
from convae.core.sizes import halvings, output_padding
from convae.model.mirror import raw_channels


def arch_def_512(
    *,
    input: ImageShape = (3, 512, 512),
    latent: Positive = 512,
    filters: Annotated[tuple[Positive, ...], Field(min_length=1)] = (32, 64, 128, 256, 512, 1024, 1024),
    likelihood: Named = "bernoulli",
) -> dict[str, Any]:
    """Stride-2 convolutions with ReLU, linear maps to and from the latent, and a mirrored decoder; no norms.

    Args:
        input: channels, then sizes.
        latent: dimension of the latent.
        filters: channels of each convolution.
        likelihood: p(x | z).
    """
    sizes = halvings(input[1:], len(filters))
    first = [filters[-1], *sizes[-1]]
    encoder: list[Any] = []
    decoder: list[Any] = [{"linear": {"features": math.prod(first)}}, "relu", {"unflatten": {"to": first}}]
    for channels in filters:
        encoder += [{"conv": {"channels": channels, "stride": 2}}, "relu"]
    for small, large, channels in zip(sizes[:0:-1], sizes[-2::-1], reversed(filters), strict=True):
        added = output_padding(small, large, [2] * len(small))
        decoder += [{"conv-transpose": {"channels": channels, "stride": 2, "output_padding": added}}, "relu"]
    return {
        "input": input,
        "encoder": [*encoder, "flatten"],
        "bottleneck": {"gaussian": {"latent": latent}},
        "decoder": [*decoder, {"conv": {"channels": raw_channels(likelihood, input)}}],
        "likelihood": likelihood,
    }
