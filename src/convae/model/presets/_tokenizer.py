"""Image tokenizers: the deep compression autoencoder without attention, in several sizes."""

from __future__ import annotations

from typing import Any, Literal

from convae.core.arguments import Named
from convae.core.types import Shape
from convae.model.presets.dc_ae import dc_ae

Posterior = Literal["gaussian", "deterministic"]


def tokenizer(
    input: Shape,
    channels: tuple[int, ...],
    blocks: tuple[int, int],
    *,
    latent: int,
    posterior: Posterior,
    latent_noise: float,
    ordered: bool,
    likelihood: Named,
) -> dict[str, Any]:
    """The description of a tokenizer; see the presets that call it.

    Args:
        input: channels, then sizes.
        channels: of each stage; sizes are halved between stages.
        blocks: per stage of the encoder, and of the decoder.
        latent: channels of the latent map.
        posterior: whether latents have a Gaussian posterior.
        latent_noise: largest standard deviation of the noise on latents in training.
        ordered: whether the channels of the latent are in an order of importance.
        likelihood: p(x | z).
    """
    count, is_gaussian = len(channels), posterior == "gaussian"
    made = dc_ae(
        input=input,
        latent=2 * latent if is_gaussian else latent,
        channels=channels,
        encoder_blocks=(blocks[0],) * count,
        decoder_blocks=(blocks[1],) * count,
        attention=0,
        likelihood=likelihood,
    )
    changes: list[Any] = []
    if latent_noise:
        changes.append({"gaussian-noise": {"sigma": latent_noise, "varies": True}})
    if ordered:
        changes.append("nested-dropout")
    own = {"gaussian": {"latent": latent}} if is_gaussian else made["bottleneck"]
    return {**made, "bottleneck": own, "decoder": [*changes, *made["decoder"]]}
