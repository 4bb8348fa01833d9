"""The structure of TAESD."""

from __future__ import annotations

from typing import Any

from convae.core.arguments import ImageShape, Named, Positive
from convae.model.mirror import raw_channels
from convae.model.published.layers import layer_list
from convae.model.published.taesd import decoder_layers, encoder_layers


def taesd(
    *,
    input: ImageShape = (3, 256, 256),
    latent: Positive = 4,
    width: Positive = 64,
    likelihood: Named = {"gaussian": {"link": "identity"}},  # noqa: B006  # never changed
) -> dict[str, Any]:
    """A small autoencoder at factor 8 without norms and attention: that of TAESD, 2.4 million parameters.

    After github.com/madebyollin/taesd (2023), layer by layer like `AutoencoderTiny` of diffusers; `convae export --to
    diffusers` writes it. Its latents have no distribution; 16 latent channels are those of TAESD3 and TAEF1.

    Args:
        input: channels, then sizes.
        latent: channels of the latent map.
        width: channels of all stages.
        likelihood: p(x | z).
    """
    channels, raw = (width,) * 4, raw_channels(likelihood, input)
    return {
        "input": input,
        "encoder": layer_list(encoder_layers(channels, (1, 3, 3, 3), latent, "relu")),
        "bottleneck": {"deterministic": {"head": False}},
        "decoder": layer_list(decoder_layers(channels, (3, 3, 3, 1), raw, tuple(input[1:]), "relu")),
        "likelihood": likelihood,
    }
