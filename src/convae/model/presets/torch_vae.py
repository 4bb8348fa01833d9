"""The network of torch-vae."""

from __future__ import annotations

import math
from typing import Any

from convae.core.arguments import ImageShape, Named, Positive
from convae.core.sizes import halvings, output_padding
from convae.model.mirror import raw_channels


def torch_vae(
    *,
    input: ImageShape = (3, 64, 64),
    latent: Positive = 64,
    max_filters: Positive = 128,
    likelihood: Named = "bernoulli",
) -> dict[str, Any]:
    """Three stride-2 convolutions with batch norm and leaky ReLU in encoder and decoder, linear maps around the latent.

    After torch-vae by M. Enzweiler (github.com/menzHSE/torch-vae), for any input.

    Args:
        input: channels, then sizes.
        latent: dimension of the latent.
        max_filters: channels of the innermost convolution; the others have a half and a quarter.
        likelihood: p(x | z).
    """
    filters = [max(1, max_filters // 4), max(1, max_filters // 2), max_filters]
    sizes = halvings(input[1:], 3)
    encoder: list[Any] = []
    for channels in filters:
        encoder += [{"conv": {"channels": channels, "stride": 2}}, "batch-norm", "leaky-relu"]
    decoder: list[Any] = [
        {"linear": {"features": max_filters * math.prod(sizes[-1])}},
        {"unflatten": {"to": [max_filters, *sizes[-1]]}},
    ]
    outputs = [filters[1], filters[0], raw_channels(likelihood, input)]
    for step, channels in enumerate(outputs):
        added = output_padding(sizes[3 - step], sizes[2 - step], [2] * len(sizes[0]))
        decoder.append({"conv-transpose": {"channels": channels, "stride": 2, "output_padding": added}})
        if step < 2:
            decoder += ["batch-norm", "leaky-relu"]
    return {
        "input": input,
        "encoder": [*encoder, "flatten"],
        "bottleneck": {"gaussian": {"latent": latent}},
        "decoder": decoder,
        "likelihood": likelihood,
    }
