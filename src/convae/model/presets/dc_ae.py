"""The structure of the deep compression autoencoder."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from convae.core.arguments import ImageShape, Named, NonNegative, Positive
from convae.core.errors import ConfigError
from convae.model.mirror import raw_channels
from convae.model.presets.sd_f8 import Stages
from convae.model.published.dc_ae import DCAESide, decoder_layers, encoder_layers
from convae.model.published.layers import TO_UNIT, has_identity_link, layer_list

Blocks = Annotated[tuple[NonNegative, ...], Field(min_length=1, max_length=16)]


def dc_ae(
    *,
    input: ImageShape = (3, 512, 512),
    latent: Positive = 32,
    channels: Stages = (128, 256, 512, 512, 1024, 1024),
    encoder_blocks: Blocks = (2, 2, 2, 3, 3, 3),
    decoder_blocks: Blocks = (3, 3, 3, 3, 3, 3),
    attention: NonNegative = 3,
    head_channels: Positive = 32,
    likelihood: Named = {"gaussian": {"link": "identity"}},  # noqa: B006  # never changed
) -> dict[str, Any]:
    """The deep compression autoencoder at factor 32, with shortcuts without parameters (Chen et al. 2024).

    arXiv:2410.10733, layer by layer like `AutoencoderDC` of diffusers; `convae export --to diffusers` writes it.
    Its latents have no distribution. Sizes are multiples of the factor; the last stages have linear attention. With a
    condition, whose channels are added to the latent, the shortcut of the decoder does not fit.

    Args:
        input: channels, then sizes.
        latent: channels of the latent map, a divisor of the last channels.
        channels: of each stage; sizes are halved between stages.
        encoder_blocks: blocks of each stage of the encoder.
        decoder_blocks: blocks of each stage of the decoder.
        attention: number of stages, from the latent, whose blocks have attention.
        head_channels: channels of a head.
        likelihood: p(x | z).
    """
    count = len(channels)
    if not len(encoder_blocks) == len(decoder_blocks) == count:
        raise ConfigError(f"dc-ae: give encoder_blocks and decoder_blocks one number for each of {count} stages")
    has_attention = tuple(number >= count - attention for number in range(count))

    def side(blocks: tuple[int, ...]) -> DCAESide:
        return DCAESide(
            channels=channels,
            blocks=blocks,
            attention=has_attention,
            scales=tuple((5,) if has else () for has in has_attention),
            norms=("rms-norm",) * count,
            activations=("silu",) * count,
            head_channels=head_channels,
            axes=len(input) - 1,
        )

    decoder = decoder_layers(side(decoder_blocks), raw_channels(likelihood, input), "relu")
    return {
        "input": input,
        "encoder": layer_list(encoder_layers(side(encoder_blocks), latent)),
        "bottleneck": {"deterministic": {"head": False}},
        "decoder": layer_list([*decoder, TO_UNIT] if has_identity_link(likelihood) else decoder),
        "likelihood": likelihood,
    }
