"""An image tokenizer at factor 32 for one GPU."""

from __future__ import annotations

from typing import Any

from convae.core.arguments import ImageShape, Named, NonNegativeFloat, Positive
from convae.model.presets._tokenizer import Posterior, tokenizer


def tokenizer_f32(
    *,
    input: ImageShape = (3, 512, 512),
    latent: Positive = 64,
    width: Positive = 64,
    posterior: Posterior = "gaussian",
    latent_noise: NonNegativeFloat = 0.0,
    ordered: bool = False,
    likelihood: Named = {"gaussian": {"link": "identity"}},  # noqa: B006  # never changed
) -> dict[str, Any]:
    """An image tokenizer at factor 32, for one GPU: a latent map of 1/32 of the size without attention.

    Stages of residual blocks with a norm at each position, and shortcuts without parameters around all changes of size,
    as in `dc-ae` (Chen et al. 2024, arXiv:2410.10733), but no attention: the receptive field is bounded, so that large
    images can be computed in exact slices. The decoder is deeper than the encoder. Sizes are multiples of 32. With
    a condition, whose channels are added to the latent, the shortcut of the decoder does not fit.

    Args:
        input: channels, then sizes.
        latent: channels of the latent map; twice as many must divide the channels of the last stage.
        width: channels of the first stage; the last has 8 times as many.
        posterior: `gaussian`, for an objective with `kl`, or `deterministic`, for one without. `convae export --to
            diffusers` writes the latter as `AutoencoderDC`.
        latent_noise: noise on the latents in training, see the layer `gaussian-noise` with `varies`.
        ordered: whether the first channels of the latent hold the most, see the layer `nested-dropout`.
        likelihood: p(x | z).
    """
    return tokenizer(
        input,
        tuple(width * factor for factor in (1, 2, 4, 4, 8, 8)),
        (2, 3),
        latent=latent,
        posterior=posterior,
        latent_noise=latent_noise,
        ordered=ordered,
        likelihood=likelihood,
    )
