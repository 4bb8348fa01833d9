"""`VQModel` of diffusers."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field

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
from convae.interop.structures.base import Blocks, Number, Stages, Structure, require_equal_images
from convae.model.bottlenecks.codes import Codes
from convae.model.provenance import LatentScale
from convae.model.published.latent_diffusion import LatentDiffusionSide
from convae.model.quantizers.vq import VQ
from convae.model.vae import VAE
from convae.model.weights import State

_CODEBOOK = "quantize.embedding.weight"
_USAGE = "bottleneck.quantizer.cluster_size"
CodeCount = Annotated[int, Field(ge=2, le=1 << 24)]


class VQModel(LatentDiffusion):
    """The autoencoder of latent diffusion with a codebook: preset `vqgan`.

    The arguments are the keys of its `config.json`. In an imported model, codes are trained by gradients, and dead
    codes are not reset.
    """

    class_name: ClassVar = "VQModel"
    settings: ClassVar = ("force_upcast", "lookup_from_codebook")

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
        latent_channels: Positive = 3,
        sample_size: SampleSize = 32,
        num_vq_embeddings: CodeCount = 256,
        norm_num_groups: Positive = 32,
        vq_embed_dim: Positive | None = None,
        scaling_factor: Number = 0.18215,
        norm_type: Literal["group", "spatial"] = "group",
        mid_block_add_attention: bool = True,
        lookup_from_codebook: bool = False,
        force_upcast: bool = False,
    ) -> None:
        require_equal_images(in_channels, out_channels)
        latent = latent_channels if vq_embed_dim is None else vq_embed_dim
        side = LatentDiffusionSide(
            channels=block_out_channels,
            blocks=layers_per_block,
            groups=norm_num_groups,
            attention=mid_block_add_attention,
        )
        self._set(
            side,
            replace(side, feature="latent" if norm_type == "spatial" else None),
            down_block_types,
            up_block_types,
            images=(in_channels, sample_size, sample_size),
            features=latent_channels,
            quant_conv=latent,
            post_quant_conv=latent_channels,
        )
        self._codes = num_vq_embeddings
        self._scale = LatentScale(factor=scaling_factor)

    @classmethod
    def config_of(cls, model: VAE, encoder: LatentDiffusionSide, decoder: LatentDiffusionSide) -> dict[str, Any]:
        """The configuration of a model with this encoder and decoder."""
        own = model.bottleneck
        if not isinstance(own, Codes) or own.head or not isinstance(own.quantizer, VQ) or len(own.latent_shape) != 3:
            raise ConfigError("bottleneck: expected vq with head: false and a map of codes")
        if own.quantizer.distance != "euclidean":
            raise ConfigError("bottleneck: expected distance: euclidean")
        require_equal_widths(encoder, decoder)
        scale = model.provenance.latent_scale or LatentScale()
        if scale.mean or scale.std:
            raise ConfigError("the configuration supports no mean or standard deviation of latents")
        is_spatial = model.spec.decoder[0].name == "feature"
        return {
            **config_of_sides(encoder, decoder, model.input_shape),
            "norm_type": "spatial" if is_spatial else "group",
            "latent_channels": model.spec.decoder[int(is_spatial)].arguments.get("channels"),
            "vq_embed_dim": model.latent_shape[0],
            "num_vq_embeddings": own.codebook_sizes[0],
            "scaling_factor": scale.factor,
        }

    @classmethod
    def of_state(cls, state: State) -> Structure | None:
        """Finds the structure by the shapes of tensors, assuming 32 groups and images of 256 pixels."""
        encoder = side_of_state(state, "encoder", "down_blocks")
        decoder = side_of_state(state, "decoder", "up_blocks")
        names = ("encoder.conv_in.weight", "encoder.conv_out.weight", _CODEBOOK)
        if encoder is None or decoder is None or not all(name in state and state[name].ndim >= 2 for name in names):
            return None
        first, last, codebook = (state[name] for name in names)
        if encoder.channels != decoder.channels:
            return None
        is_spatial = any(".norm1.conv_y." in name for name in state)
        config = {
            **config_of_sides(encoder, decoder, (first.shape[1], UNKNOWN_SIZE)),
            "latent_channels": last.shape[0],
            "scaling_factor": 1.0,
            "norm_type": "spatial" if is_spatial else "group",
            "num_vq_embeddings": codebook.shape[0],
            "vq_embed_dim": codebook.shape[1],
        }
        found = cls.read(config, "its tensors")
        found.notes = (NO_CONFIGURATION,)
        return found

    def bottleneck(self) -> dict[str, Any]:
        """Vector quantization without a head."""
        return {"vq": {"codes": self._codes, "head": False, "update": "gradient", "dead_code_threshold": 0.0}}

    def further_tensors(self) -> dict[str, str]:
        """The codebook."""
        return {"bottleneck.quantizer.codebook": _CODEBOOK}

    def complete(self, tensors: State) -> None:
        """Adds uniform usage, so that training does not initialize the codes again."""
        tensors[_USAGE] = torch.ones(self._codes)

    def is_derived(self, name: str) -> bool:
        """Whether it is the usage of codes."""
        return name == _USAGE
