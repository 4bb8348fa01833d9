"""The β-VAE for CelebA at 128×128."""

from __future__ import annotations

from typing import Any

from convae.core.arguments import ImageShape, Named, Positive
from convae.model.presets.arch_def_512 import arch_def_512

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
    return arch_def_512(input=input, latent=latent, filters=FILTERS, likelihood=likelihood)
