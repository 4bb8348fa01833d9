"""The network of an `arch_def` dictionary for faces at 512×512."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from convae.core.arguments import ImageShape, Named, Positive
from convae.model.notations.arch_def import from_arch_def


def arch_def_512(
    *,
    input: ImageShape = (3, 512, 512),
    latent: Positive = 512,
    filters: Annotated[tuple[Positive, ...], Field(min_length=1)] = (32, 64, 128, 256, 512, 1024, 1024),
    likelihood: Named = "bernoulli",
) -> dict[str, Any]:
    """A row of stride-2 convolutions with ReLU, dense maps to and from the latent, and its mirror; no norms.

    Args:
        input: channels, then sizes.
        latent: latent values.
        filters: channels of each convolution.
        likelihood: what the decoder's values mean.
    """
    written = {
        "input": (*input[1:], input[0]),
        "latent": latent,
        "encode": [(channels, 3, 2) for channels in filters],
        "likelihood": likelihood,
    }
    return from_arch_def(written, "preset arch-def-512")
