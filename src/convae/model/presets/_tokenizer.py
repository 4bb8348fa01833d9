"""Image tokenizers: the deep compression autoencoder without attention, in several sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from convae.core.arguments import ImageShape, Named, NonNegativeFloat, Positive
from convae.core.types import Shape
from convae.model.presets.dc_ae import dc_ae

Posterior = Literal["gaussian", "deterministic"]
_DOC = """{title}: a latent map of 1/{factor} of the size without attention.

Stages of residual blocks with a norm at each position, and shortcuts without parameters around all changes of size,
as in `dc-ae` (Chen et al. 2024, arXiv:2410.10733), but no attention: the receptive field is bounded, so that large
images can be computed in exact slices. The decoder is deeper than the encoder. Sizes are multiples of {factor}. With
a condition, whose channels are added to the latent, the shortcut of the decoder does not fit.

Args:
    input: channels, then sizes.
    latent: channels of the latent map; twice as many must divide the channels of the last stage.
    width: channels of the first stage; the last has {last} times as many.
    posterior: `gaussian`, for an objective with `kl`, or `deterministic`, for one without. `convae export --to
        diffusers` writes the latter as `AutoencoderDC`.
    latent_noise: noise on the latents in training, see the layer `gaussian-noise` with `varies`.
    ordered: whether the first channels of the latent hold the most, see the layer `nested-dropout`.
    likelihood: p(x | z).
"""


def tokenizer_preset(
    module: str, title: str, *, multiples: tuple[int, ...], blocks: tuple[int, int], size: int, latent: int, width: int
) -> Callable[..., dict[str, Any]]:
    """A preset: `tokenizer` with these stages and defaults.

    Args:
        module: module of the preset, whose name ends with that of the preset.
        title: what it is, for its documentation.
        multiples: channels of each stage as multiples of the width; sizes are halved between stages.
        blocks: per stage of the encoder, and of the decoder.
        size: default height and width of the images.
        latent: default channels of the latent map.
        width: default channels of the first stage.
    """

    def preset(
        *,
        input: ImageShape = (3, size, size),
        latent: Positive = latent,
        width: Positive = width,
        posterior: Posterior = "gaussian",
        latent_noise: NonNegativeFloat = 0.0,
        ordered: bool = False,
        likelihood: Named = {"gaussian": {"link": "identity"}},  # noqa: B006  # never changed
    ) -> dict[str, Any]:
        channels = tuple(width * multiple for multiple in multiples)
        return tokenizer(
            input,
            channels,
            blocks,
            latent=latent,
            posterior=posterior,
            latent_noise=latent_noise,
            ordered=ordered,
            likelihood=likelihood,
        )

    preset.__name__ = preset.__qualname__ = module.rpartition(".")[2]
    preset.__module__ = module
    preset.__doc__ = _DOC.format(title=title, factor=2 ** (len(multiples) - 1), last=multiples[-1])
    return preset


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
    """The description of a tokenizer; see `tokenizer_preset`.

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
