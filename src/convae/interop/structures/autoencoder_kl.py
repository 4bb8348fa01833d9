"""`AutoencoderKL` of diffusers."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from convae.core.arguments import Positive
from convae.core.errors import ConfigError
from convae.interop.structures._latent_diffusion import (
    NO_CONFIGURATION,
    UNKNOWN_SIZE,
    DownBlocks,
    LatentDiffusion,
    SampleSize,
    UpBlocks,
    config_of_sides,
    require_equal_widths,
    side_of_state,
)
from convae.interop.structures.base import Blocks, Number, Numbers, Stages, Structure, require_equal_images
from convae.model.bottlenecks.gaussian import Gaussian
from convae.model.provenance import LatentScale
from convae.model.published.latent_diffusion import LatentDiffusionSide
from convae.model.vae import VAE
from convae.model.weights import State

MAX_LOGVAR = 20.0
"""Upper bound of the log-variance in diffusers."""


class AutoencoderKL(LatentDiffusion):
    """The autoencoder of Stable Diffusion 1 to 3, SDXL and FLUX.1: preset `sd-f8` and `flux-1`.

    The arguments are the keys of its `config.json`.
    """

    class_name: ClassVar = "AutoencoderKL"
    settings: ClassVar = ("force_upcast",)

    def __init__(
        self,
        *,
        in_channels: Positive = 3,
        out_channels: Positive = 3,
        down_block_types: DownBlocks = ("DownEncoderBlock2D",),
        up_block_types: UpBlocks = ("UpDecoderBlock2D",),
        block_out_channels: Stages = (64,),
        layers_per_block: Blocks = 1,
        act_fn: Literal["silu", "swish"] = "silu",
        latent_channels: Positive = 4,
        norm_num_groups: Positive = 32,
        sample_size: SampleSize = 32,
        scaling_factor: Number = 0.18215,
        shift_factor: Number | None = None,
        latents_mean: Numbers | None = None,
        latents_std: Numbers | None = None,
        force_upcast: bool = True,
        use_quant_conv: bool = True,
        use_post_quant_conv: bool = True,
        mid_block_add_attention: bool = True,
    ) -> None:
        require_equal_images(in_channels, out_channels)
        features = 2 * latent_channels
        side = LatentDiffusionSide(
            channels=block_out_channels,
            blocks=layers_per_block,
            groups=norm_num_groups,
            attention=mid_block_add_attention,
        )
        self._set(
            side,
            side,
            down_block_types,
            up_block_types,
            images=(in_channels, sample_size, sample_size),
            features=features,
            quant_conv=features if use_quant_conv else None,
            post_quant_conv=latent_channels if use_post_quant_conv else None,
        )
        self._latent = latent_channels
        self._scale = LatentScale(
            mean=latents_mean or (() if shift_factor is None else (shift_factor,)),
            std=latents_std or (),
            factor=scaling_factor,
        )

    @classmethod
    def config_of(cls, model: VAE, encoder: LatentDiffusionSide, decoder: LatentDiffusionSide) -> dict[str, Any]:
        """The configuration of a model with this encoder and decoder."""
        require_gaussian(model)
        require_equal_widths(encoder, decoder)
        scale = model.provenance.latent_scale or LatentScale()
        if scale.patch:
            raise ConfigError("its latent scale is one of patches")
        is_shift = len(scale.mean) == 1 and not scale.std
        return {
            **config_of_sides(encoder, decoder, model.input_shape),
            **quant_convs(model),
            "latent_channels": model.latent_shape[0],
            "scaling_factor": scale.factor,
            "shift_factor": scale.mean[0] if is_shift else None,
            "latents_mean": None if is_shift or not scale.mean else list(scale.mean),
            "latents_std": list(scale.std) or None,
        }

    @classmethod
    def of_state(cls, state: State) -> Structure | None:
        """Finds the structure by the shapes of tensors, assuming 32 groups and images of 256 pixels."""
        encoder = side_of_state(state, "encoder", "down_blocks")
        decoder = side_of_state(state, "decoder", "up_blocks")
        first, last = state.get("encoder.conv_in.weight"), state.get("decoder.conv_in.weight")
        if encoder is None or decoder is None or first is None or last is None or first.ndim != 4 or last.ndim != 4:
            return None
        if "quantize.embedding.weight" in state or encoder.channels != decoder.channels:
            return None
        config = {
            **config_of_sides(encoder, decoder, (first.shape[1], UNKNOWN_SIZE)),
            "latent_channels": last.shape[1],
            "scaling_factor": 1.0,
            "use_quant_conv": "quant_conv.weight" in state,
            "use_post_quant_conv": "post_quant_conv.weight" in state,
        }
        found = cls.read(config, "its tensors")
        found.notes = (NO_CONFIGURATION,)
        return found

    def bottleneck(self) -> dict[str, Any]:
        """A diagonal Gaussian without a head."""
        return describe_gaussian(self._latent)


def describe_gaussian(latent: int) -> dict[str, Any]:
    """The description of a Gaussian bottleneck with a latent map, and the bounds of diffusers."""
    return {"gaussian": {"latent": latent, "head": False, "max_logvar": MAX_LOGVAR}}


def require_gaussian(model: VAE) -> None:
    """Checks that the bottleneck is Gaussian, without a head, with a latent map and a diagonal covariance.

    Raises:
        ConfigError: it is another one.
    """
    own = model.bottleneck
    if not isinstance(own, Gaussian) or own.head or not own.is_diagonal or len(own.latent_shape) != 3:
        raise ConfigError("bottleneck: expected gaussian with head: false, a diagonal covariance and a latent map")


def quant_convs(model: VAE) -> dict[str, bool]:
    """Keys of a configuration: whether a model has 1×1 convolutions before and after the latent."""
    before, after = model.spec.encoder[-1], model.spec.decoder[0]
    return {
        "use_quant_conv": before.arguments.get("kernel") == 1,
        "use_post_quant_conv": after.arguments.get("kernel") == 1,
    }
