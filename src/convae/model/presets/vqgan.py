"""The structure of VQGAN."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import Field

from convae.core.arguments import ImageShape, Named, Positive
from convae.model.mirror import raw_channels
from convae.model.presets.sd_f8 import Stages
from convae.model.published.latent_diffusion import LatentDiffusionSide, decoder_layers, encoder_layers
from convae.model.published.layers import TO_UNIT, has_identity_link, layer_list


def vqgan(
    *,
    input: ImageShape = (3, 256, 256),
    latent: Positive = 256,
    codes: Annotated[int, Field(ge=2, le=1 << 24)] = 1024,
    width: Positive = 128,
    multipliers: Stages = (1, 1, 2, 2, 4),
    blocks: Annotated[int, Field(gt=0, le=1_000)] = 2,
    attention_stages: Annotated[tuple[bool, ...], Field(max_length=16)] = (False, False, False, False, True),
    likelihood: Named = {"gaussian": {"link": "identity"}},  # noqa: B006  # never changed
) -> dict[str, Any]:
    """The autoencoder of latent diffusion with a codebook, at factor 16 (Esser, Rombach & Ommer 2020).

    arXiv:2012.09841, layer by layer like `VQModel` of diffusers, to which `convae export --to diffusers` writes it.

    Args:
        input: channels, then sizes.
        latent: dimension of the codes.
        codes: codebook size.
        width: base number of channels.
        multipliers: channels of each stage, as multiples of `width`; sizes are halved between stages.
        blocks: residual blocks per stage of the encoder; the decoder has one more.
        attention_stages: for each stage, whether attention follows its residual blocks.
        likelihood: p(x | z).
    """
    side = LatentDiffusionSide(
        channels=tuple(factor * width for factor in multipliers),
        blocks=blocks,
        groups=math.gcd(32, width),
        attention_stages=attention_stages,
    )
    decoder = decoder_layers(side, latent, raw_channels(likelihood, input), tuple(input[1:]))
    return {
        "input": input,
        "encoder": layer_list(encoder_layers(side, latent, latent)),
        "bottleneck": {"vq": {"codes": codes, "head": False, "update": "gradient", "dead_code_threshold": 0.0}},
        "decoder": layer_list([*decoder, TO_UNIT] if has_identity_link(likelihood) else decoder),
        "likelihood": likelihood,
    }
