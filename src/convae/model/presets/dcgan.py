"""A fully convolutional network after the guidelines of DCGAN."""

from __future__ import annotations

from typing import Any, Literal

from convae.core.arguments import ImageShape, Named, Positive
from convae.core.sizes import halvings, output_padding
from convae.model.mirror import raw_channels

SMALLEST = 4
"""Sizes are halved down to this size."""
MOST = 8
"""Channels double with each halving, up to this multiple of the first."""


def dcgan(
    *,
    input: ImageShape = (3, 64, 64),
    latent: Positive = 128,
    grid: Literal["global", "spatial"] = "global",
    filters: Positive = 64,
    likelihood: Named = {"gaussian": {"sigma": "learned", "link": "tanh"}},  # noqa: B006  # never changed
) -> dict[str, Any]:
    """Fully convolutional: strided convolutions of kernel 4 with batch norm, leaky ReLU and ReLU, and a final tanh.

    After Radford, Metz & Chintala 2015 (arXiv:1511.06434): the first and last convolutions have no norm.

    Args:
        input: channels, then sizes.
        latent: dimension of the latent, or its channels with a spatial grid.
        grid: `global` for a 1×1 latent, `spatial` for a latent map.
        filters: channels of the first convolution.
        likelihood: p(x | z); the default has a tanh link, as in the guidelines.
    """
    times = 1
    while max(halvings(input[1:], times)[-1]) > SMALLEST:
        times += 1
    sizes = halvings(input[1:], times)
    widths = [filters * min(2**step, MOST) for step in range(times)]
    encoder: list[Any] = []
    for step, channels in enumerate(widths):
        norm = ["batch-norm"] if step else []
        encoder += [{"conv": {"channels": channels, "kernel": 4, "stride": 2}}, *norm, {"leaky-relu": {"slope": 0.2}}]
    if grid == "global":
        encoder.append({"conv": {"channels": 2 * latent, "kernel": list(sizes[-1]), "padding": 0}})
        first = {"conv-transpose": {"channels": widths[-1], "kernel": list(sizes[-1]), "padding": 0}}
    else:
        first = {"conv": {"channels": widths[-1]}}
    decoder: list[Any] = [first, "batch-norm", "relu"]
    outputs = [*reversed(widths[:-1]), raw_channels(likelihood, input)]
    for small, large, channels in zip(sizes[:0:-1], sizes[-2::-1], outputs, strict=True):
        added = output_padding(small, large, [2] * len(small))
        arguments = {"channels": channels, "kernel": 4, "stride": 2, "output_padding": added}
        decoder += [{"conv-transpose": arguments}, "batch-norm", "relu"]
    return {
        "input": input,
        "encoder": encoder,
        "bottleneck": {"gaussian": {"latent": latent, "head": grid == "spatial"}},
        "decoder": decoder[:-2],
        "likelihood": likelihood,
    }
