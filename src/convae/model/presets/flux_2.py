"""The structure of the autoencoder of FLUX.2."""

from __future__ import annotations

from typing import Any

from convae.core.arguments import ImageShape, Named, Positive
from convae.model.presets.sd_f8 import sd_f8


def flux_2(
    *,
    input: ImageShape = (3, 256, 256),
    latent: Positive = 32,
    width: Positive = 128,
    decoder_width: Positive | None = None,
    likelihood: Named = {"gaussian": {"link": "identity"}},  # noqa: B006  # never changed
) -> dict[str, Any]:
    """The `sd-f8` of FLUX.2: 32 latent channels, whose 2×2 patches a generator takes standardized.

    The patches and their statistics are the latent scale of an imported model, not layers. `AutoencoderKLFlux2` of
    diffusers, of which `convae import` reads the weights; its small decoder has a width of 96.

    Args:
        input: channels, then sizes.
        latent: channels of the latent map.
        width: base number of channels.
        decoder_width: base number of channels of the decoder; by default that of the encoder.
        likelihood: p(x | z).
    """
    return sd_f8(input=input, latent=latent, width=width, decoder_width=decoder_width, likelihood=likelihood)
