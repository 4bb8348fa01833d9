"""The structure of the autoencoder of FLUX.1 and Stable Diffusion 3."""

from __future__ import annotations

from typing import Any

from convae.core.arguments import ImageShape, Named, Positive
from convae.model.presets.sd_f8 import sd_f8


def flux_1(
    *,
    input: ImageShape = (3, 256, 256),
    latent: Positive = 16,
    width: Positive = 128,
    likelihood: Named = {"gaussian": {"link": "identity"}},  # noqa: B006  # never changed
) -> dict[str, Any]:
    """The `sd-f8` of FLUX.1 and Stable Diffusion 3: 16 latent channels, no convolutions around the latent.

    Esser et al. 2024 (arXiv:2403.03206). `convae import` reads their weights.

    Args:
        input: channels, then sizes.
        latent: channels of the latent map.
        width: base number of channels.
        likelihood: p(x | z).
    """
    return sd_f8(input=input, latent=latent, width=width, quant_conv=False, likelihood=likelihood)
