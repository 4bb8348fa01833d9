"""The structure of the autoencoder of latent diffusion at factor 8."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import Field

from convae.core.arguments import ImageShape, Named, Positive
from convae.model.mirror import raw_channels
from convae.model.published.latent_diffusion import LatentDiffusionSide, decoder_layers, encoder_layers
from convae.model.published.layers import TO_UNIT, has_identity_link, layer_list

Stages = Annotated[tuple[Positive, ...], Field(min_length=1, max_length=16)]


def sd_f8(
    *,
    input: ImageShape = (3, 256, 256),
    latent: Positive = 4,
    width: Positive = 128,
    multipliers: Stages = (1, 2, 4, 4),
    blocks: Annotated[int, Field(gt=0, le=1_000)] = 2,
    decoder_width: Positive | None = None,
    attention: bool = True,
    quant_conv: bool = True,
    likelihood: Named = {"gaussian": {"link": "identity"}},  # noqa: B006  # never changed
) -> dict[str, Any]:
    """Residual blocks with three downsamplings and attention, with a latent map of 1/8 of the size.

    After Rombach et al. 2021 (arXiv:2112.10752), layer by layer like `AutoencoderKL` of diffusers, to which `convae
    export --to diffusers` writes it. SD 1, SD 2 and SDXL have the defaults; see `flux-1` and `flux-2` for later ones.

    Args:
        input: channels, then sizes.
        latent: channels of the latent map.
        width: base number of channels.
        multipliers: channels of each stage, as multiples of `width`; sizes are halved between stages.
        blocks: residual blocks per stage of the encoder; the decoder has one more.
        decoder_width: base number of channels of the decoder; by default that of the encoder.
        attention: whether there is attention at the smallest size.
        quant_conv: whether a 1×1 convolution is before and after the latent.
        likelihood: p(x | z).
    """
    features = 2 * latent

    def side(base: int) -> LatentDiffusionSide:
        channels = tuple(factor * base for factor in multipliers)
        return LatentDiffusionSide(channels=channels, blocks=blocks, groups=math.gcd(32, base), attention=attention)

    encoder = encoder_layers(side(width), features, features if quant_conv else None)
    raw = raw_channels(likelihood, input)
    decoder = decoder_layers(side(decoder_width or width), latent if quant_conv else None, raw, tuple(input[1:]))
    return {
        "input": input,
        "encoder": layer_list(encoder),
        "bottleneck": {"gaussian": {"latent": latent, "head": False}},
        "decoder": layer_list([*decoder, TO_UNIT] if has_identity_link(likelihood) else decoder),
        "likelihood": likelihood,
    }
