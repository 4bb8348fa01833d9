"""`AutoencoderDC` of diffusers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from convae.core.arguments import Positive
from convae.core.errors import ConfigError
from convae.core.types import Shape
from convae.interop.structures._deep_compression import decoder_config, encoder_config
from convae.interop.structures._deterministic import SIZE, Counts, DeterministicStructure, require_deterministic
from convae.interop.structures.base import Number, Stages, Structure
from convae.model.provenance import LatentScale
from convae.model.published.dc_ae import DCAESide, decoder_layers, encoder_layers
from convae.model.published.layers import TO_UNIT, PublishedLayer
from convae.model.vae import VAE

Kind = Literal["ResBlock", "EfficientViTBlock"]
Norm = Literal["rms_norm", "batch_norm", "layer_norm"]
Act = Literal["silu", "swish", "relu", "gelu"]
Scales = Annotated[tuple[Annotated[tuple[Positive, ...], Field(max_length=8)], ...], Field(max_length=16)]
_SCALES = ((), (), (), (5,), (5,), (5,))
_CHANNELS = (128, 256, 512, 512, 1024, 1024)


class AutoencoderDC(DeterministicStructure):
    """The deep compression autoencoder of SANA and others: preset `dc-ae`.

    The arguments are the keys of its `config.json`.
    """

    class_name: ClassVar = "AutoencoderDC"

    def __init__(
        self,
        *,
        in_channels: Positive = 3,
        latent_channels: Positive = 32,
        attention_head_dim: Positive = 32,
        encoder_block_types: Kind | tuple[Kind, ...] = "ResBlock",
        decoder_block_types: Kind | tuple[Kind, ...] = "ResBlock",
        encoder_block_out_channels: Stages = _CHANNELS,
        decoder_block_out_channels: Stages = _CHANNELS,
        encoder_layers_per_block: Counts = (2, 2, 2, 3, 3, 3),
        decoder_layers_per_block: Counts = (3, 3, 3, 3, 3, 3),
        encoder_qkv_multiscales: Scales = _SCALES,
        decoder_qkv_multiscales: Scales = _SCALES,
        upsample_block_type: Literal["pixel_shuffle", "interpolate"] = "pixel_shuffle",
        downsample_block_type: Literal["pixel_unshuffle", "conv"] = "pixel_unshuffle",
        decoder_norm_types: Norm | tuple[Norm, ...] = "rms_norm",
        decoder_act_fns: Act | tuple[Act, ...] = "silu",
        encoder_out_shortcut: bool = True,
        decoder_in_shortcut: bool = True,
        decoder_conv_act_fn: Act = "relu",
        scaling_factor: Number = 1.0,
    ) -> None:
        self._encoder = DCAESide(
            channels=encoder_block_out_channels,
            blocks=encoder_layers_per_block,
            attention=_attention(encoder_block_types, encoder_block_out_channels),
            scales=encoder_qkv_multiscales,
            norms=("rms-norm",) * len(encoder_block_out_channels),
            activations=("silu",) * len(encoder_block_out_channels),
            head_channels=attention_head_dim,
            resampling=downsample_block_type == "pixel_unshuffle",
            shortcut=encoder_out_shortcut,
        )
        self._decoder = DCAESide(
            channels=decoder_block_out_channels,
            blocks=decoder_layers_per_block,
            attention=_attention(decoder_block_types, decoder_block_out_channels),
            scales=decoder_qkv_multiscales,
            norms=tuple(name.replace("_", "-") for name in _each(decoder_norm_types, decoder_block_out_channels)),
            activations=tuple(_act(name) for name in _each(decoder_act_fns, decoder_block_out_channels)),
            head_channels=attention_head_dim,
            resampling=upsample_block_type == "pixel_shuffle",
            shortcut=decoder_in_shortcut,
        )
        for name, side in (("encoder", self._encoder), ("decoder", self._decoder)):
            if not len(side.channels) == len(side.blocks) == len(side.scales) == len(side.attention) == len(side.norms):
                raise ConfigError(f"config.json: {name} lists have different lengths. Set one value per stage")
            if len(side.channels) < 2 or not all(side.blocks[1:]):
                raise ConfigError(f"config.json: {name}: expected two or more stages, all but the first with blocks")
        self._images, self._latent = (in_channels, SIZE, SIZE), latent_channels
        self._activation, self._scale = _act(decoder_conv_act_fn), LatentScale(factor=scaling_factor)

    @classmethod
    def of_model(cls, model: VAE) -> Structure:
        """The structure of a model; see `Structure.of_model`."""
        require_deterministic(model)
        scale = model.provenance.latent_scale or LatentScale()
        if scale.mean or scale.std:
            raise ConfigError("the configuration supports no mean or standard deviation of latents")
        return cls.read_of(
            model,
            {
                "in_channels": model.input_shape[0],
                "latent_channels": model.latent_shape[0],
                "scaling_factor": scale.factor,
                **encoder_config(model.spec.encoder),
                **decoder_config(model.spec.decoder),
            },
        )

    def encoder(self) -> list[PublishedLayer]:
        """Images in [0, 1] to latents."""
        return encoder_layers(self._encoder, self._latent)

    def decoder(self, sizes: Shape) -> list[PublishedLayer]:
        """Latents to images in [0, 1]."""
        return [*decoder_layers(self._decoder, self._images[0], self._activation), TO_UNIT]


def _each(given: str | tuple[str, ...], channels: Sequence[int]) -> tuple[str, ...]:
    return (given,) * len(channels) if isinstance(given, str) else given


def _act(name: str) -> str:
    return "silu" if name == "swish" else name


def _attention(given: str | tuple[str, ...], channels: Sequence[int]) -> tuple[bool, ...]:
    return tuple(kind == "EfficientViTBlock" for kind in _each(given, channels))
