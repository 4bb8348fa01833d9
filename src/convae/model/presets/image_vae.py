"""ImageVAE: convolutions whose kernels, strides and paddings are solved from their input and output sizes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from convae.core.arguments import ImageShape, Named, Positive
from convae.core.errors import ConfigError
from convae.core.names import shape_text
from convae.model.mirror import raw_channels

LIMITS = (5, 7)
"""The largest stride and kernel of the first search."""


def image_vae(
    *,
    input: ImageShape = (1, 28, 28),
    latent: Positive = 2,
    layers: Annotated[int, Field(gt=0, le=1_000)] = 3,
    features: tuple[Positive, ...] | None = None,
    likelihood: Named = "bernoulli",
) -> dict[str, Any]:
    """Convolutions between the input and a given feature map, with PReLU; no norms.

    After ImageVAE of my_pytorch_kit by noahpy (github.com/noahpy/my_pytorch_kit), for any input; the slopes of the
    activations are not shared.

    Args:
        input: channels, then sizes.
        latent: dimension of the latent.
        layers: number of convolutions in encoder and decoder.
        features: channels and sizes of the innermost map; None for 64 channels and a quarter of each size.
        likelihood: p(x | z).

    Raises:
        ConfigError: the features differ from the input in the number of sizes, or have larger ones.
    """
    inner = features or (64, *(-(-size // 4) for size in input[1:]))
    if len(inner) != len(input) or any(new > old for new, old in zip(inner[1:], input[1:], strict=True)):
        raise ConfigError(
            f"preset image-vae: features {shape_text(inner)} must have channels, and sizes not larger than the input "
            f"{shape_text(input)}"
        )
    encoder: list[Any] = []
    for small, large, channels in _steps(inner, input, layers)[::-1]:
        encoder += [{"conv": {"channels": channels, **solved(small, large)}}, "prelu"]
    decoder: list[Any] = [{"linear": {"features": math.prod(inner)}}, {"unflatten": {"to": list(inner)}}]
    raw = (raw_channels(likelihood, input), *input[1:])
    for small, large, channels in _steps(inner, raw, layers, outwards=True):
        decoder += [{"conv-transpose": {"channels": channels, **solved(small, large), "output_padding": 0}}, "prelu"]
    return {
        "input": input,
        "encoder": [*encoder, "flatten"],
        "bottleneck": {"gaussian": {"latent": latent}},
        "decoder": decoder[:-1],
        "likelihood": likelihood,
    }


def _steps(
    inner: Sequence[int], outer: Sequence[int], layers: int, outwards: bool = False
) -> list[tuple[tuple[int, ...], tuple[int, ...], int]]:
    """Input sizes, output sizes and output channels of each convolution, from the innermost.

    Sizes grow by equal factors and channels by equal differences, each rounded.
    """
    first, last = (inner, outer) if outwards else (outer, inner)
    sizes = [np.geomspace(a, b, layers + 1).round().astype(int) for a, b in zip(first[1:], last[1:], strict=True)]
    trace = [tuple(int(size) for size in at) for at in zip(*sizes, strict=True)]
    channels = [int(number) for number in np.linspace(first[0], last[0], layers + 1).round().astype(int)]
    pairs = [(min(pair), max(pair)) for pair in itertools.pairwise(trace)]
    steps = [(small, large, number) for (small, large), number in zip(pairs, channels[1:], strict=True)]
    return steps if outwards else steps[::-1]


def solved(small: Sequence[int], large: Sequence[int]) -> dict[str, list[int]]:
    """Kernel, stride and padding of the convolution from the large to the small sizes, and of its transpose."""
    axes = [_solve(little, big) for little, big in zip(small, large, strict=True)]
    return {name: [axis[index] for axis in axes] for index, name in enumerate(("kernel", "stride", "padding"))}


def _solve(small: int, large: int) -> tuple[int, int, int]:
    """The smallest stride, then kernel, with (small − 1)·stride + kernel − 2·padding = large."""
    for most_stride, most_kernel in (LIMITS, (large, large)):
        for stride in range(1, most_stride + 1):
            for kernel in range(stride, most_kernel + 1):
                padding, odd = divmod((small - 1) * stride + kernel - large, 2)
                if padding >= 0 and not odd:
                    return kernel, stride, padding
    raise AssertionError(f"unreachable: a kernel and stride of {large} fit every size")
