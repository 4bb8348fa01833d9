"""Shared code of the structures of latent diffusion: encoder and decoder, from layers or shapes of tensors."""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import Field

from convae.core.description import LayerSpec
from convae.core.errors import ConfigError
from convae.core.types import Shape
from convae.interop.structures.base import Structure
from convae.model.published.latent_diffusion import LatentDiffusionSide, decoder_layers, encoder_layers
from convae.model.published.layers import TO_UNIT, PublishedLayer
from convae.model.vae import VAE
from convae.model.weights import State

PLAIN_DOWN, ATTENTION_DOWN = "DownEncoderBlock2D", "AttnDownEncoderBlock2D"
PLAIN_UP, ATTENTION_UP = "UpDecoderBlock2D", "AttnUpDecoderBlock2D"
DownBlocks = Annotated[tuple[Literal["DownEncoderBlock2D", "AttnDownEncoderBlock2D"], ...], Field(max_length=16)]
UpBlocks = Annotated[tuple[Literal["UpDecoderBlock2D", "AttnUpDecoderBlock2D"], ...], Field(max_length=16)]
SampleSize = Annotated[int, Field(gt=0, le=1 << 16)]
NORMS = ("group-norm", "spatial-norm")
UNKNOWN_SIZE = 256
"""Image size of weights without a configuration."""
NO_CONFIGURATION = "no configuration: assuming 32 groups, images of 256 pixels and no latent scale"


class LatentDiffusion(Structure):
    """A structure with encoder and decoder of latent diffusion."""

    def _set(
        self,
        encoder: LatentDiffusionSide,
        decoder: LatentDiffusionSide,
        down_block_types: Sequence[str],
        up_block_types: Sequence[str],
        *,
        images: Shape,
        features: int,
        quant_conv: int | None,
        post_quant_conv: int | None,
    ) -> None:
        """Sets the architecture.

        Args:
            encoder: the encoder, without the attention of its stages.
            decoder: the decoder, likewise.
            down_block_types: types of the stages of the encoder, from the image.
            up_block_types: types of the stages of the decoder, from the latent.
            images: (channels, *sizes) of the images.
            features: output channels of the encoder before `quant_conv`.
            quant_conv: output channels of the 1×1 convolution before the latent; None without one.
            post_quant_conv: output channels of the 1×1 convolution after the latent; None without one.

        Raises:
            ConfigError: not one value for each stage.
        """
        counts = {"down_block_types": len(down_block_types), "up_block_types": len(up_block_types)}
        stages = len(encoder.channels)
        for key, count in {**counts, "decoder_block_out_channels": len(decoder.channels)}.items():
            if count != stages:
                raise ConfigError(f"config.json: {key}: expected {stages} values, one per stage")
        self._encoder = replace(encoder, attention_stages=_has_attention(down_block_types))
        self._decoder = replace(decoder, attention_stages=_has_attention(up_block_types[::-1]))
        self._images, self._features = images, features
        self._quant_conv, self._post_quant_conv = quant_conv, post_quant_conv

    @classmethod
    @abstractmethod
    def config_of(cls, model: VAE, encoder: LatentDiffusionSide, decoder: LatentDiffusionSide) -> dict[str, Any]:
        """The configuration of a model with this encoder and decoder.

        Raises:
            ConfigError: the structure does not support the bottleneck, or the encoder and decoder.
        """

    @classmethod
    def of_model(cls, model: VAE) -> Structure:
        """Finds the structure of a model; see `Structure.of_model`."""
        reason: ConfigError | None = None
        for encoder in candidates(model.spec.encoder, is_decoder=False):
            for decoder in candidates(model.spec.decoder, is_decoder=True):
                try:
                    return cls.read_of(model, cls.config_of(model, encoder, decoder))
                except ConfigError as error:
                    reason = reason or error
        raise ConfigError(str(reason))

    @property
    def input(self) -> Shape:
        """Square images of `sample_size`."""
        return self._images

    def encoder(self) -> list[PublishedLayer]:
        """Images in [0, 1] to features."""
        return encoder_layers(self._encoder, self._features, self._quant_conv)

    def decoder(self, sizes: Shape) -> list[PublishedLayer]:
        """Latents to images in [0, 1] of these sizes."""
        return [*decoder_layers(self._decoder, self._post_quant_conv, self._images[0], sizes), TO_UNIT]


def config_of_sides(encoder: LatentDiffusionSide, decoder: LatentDiffusionSide, images: Shape) -> dict[str, Any]:
    """The keys of a configuration that describe encoder, decoder and images.

    Raises:
        ConfigError: encoder and decoder have different blocks.
    """
    if (encoder.blocks, encoder.attention) != (decoder.blocks, decoder.attention):
        raise ConfigError("encoder and decoder differ in blocks or attention")
    return {
        "in_channels": images[0],
        "out_channels": images[0],
        "sample_size": images[1],
        "down_block_types": down_blocks(encoder),
        "up_block_types": up_blocks(decoder),
        "block_out_channels": list(encoder.channels),
        "layers_per_block": encoder.blocks,
        "norm_num_groups": encoder.groups,
        "mid_block_add_attention": encoder.attention,
    }


def require_equal_widths(encoder: LatentDiffusionSide, decoder: LatentDiffusionSide) -> None:
    """Checks that encoder and decoder have equal channels.

    Raises:
        ConfigError: their channels differ.
    """
    if encoder.channels != decoder.channels:
        raise ConfigError(f"expected decoder stages of {encoder.channels} channels, got {decoder.channels}")


def _has_attention(block_types: Sequence[str]) -> tuple[bool, ...]:
    return tuple(kind.startswith("Attn") for kind in block_types)


def down_blocks(side: LatentDiffusionSide) -> list[str]:
    """Block types of the stages of an encoder, from the image."""
    return [ATTENTION_DOWN if has else PLAIN_DOWN for has in _flags(side)]


def up_blocks(side: LatentDiffusionSide) -> list[str]:
    """Block types of the stages of a decoder, from the latent."""
    return [ATTENTION_UP if has else PLAIN_UP for has in reversed(_flags(side))]


def _flags(side: LatentDiffusionSide) -> tuple[bool, ...]:
    return side.attention_stages or (False,) * len(side.channels)


def side_of_state(state: State, prefix: str, stages: str) -> LatentDiffusionSide | None:
    """Finds the architecture of encoder or decoder by the shapes of tensors, assuming 32 groups.

    Args:
        state: published tensors by their current names.
        prefix: `encoder` or `decoder`.
        stages: `down_blocks` or `up_blocks`.

    Returns:
        None for another network.
    """
    channels, blocks, attention = [], [], []
    for number in itertools.count():
        path = f"{prefix}.{stages}.{number}"
        first = state.get(f"{path}.resnets.0.conv1.weight")
        if first is None:
            break
        channels.append(int(first.shape[0]))
        blocks.append(sum(key.startswith(f"{path}.resnets.") and key.endswith(".conv1.weight") for key in state))
        attention.append(any(key.startswith(f"{path}.attentions.") for key in state))
    if not channels or len(set(blocks)) != 1:
        return None
    if prefix == "decoder":
        channels, attention = channels[::-1], attention[::-1]
    return LatentDiffusionSide(
        channels=tuple(channels),
        blocks=blocks[0] - (prefix == "decoder"),
        groups=32,
        attention=f"{prefix}.mid_block.attentions.0.to_q.weight" in state,
        attention_stages=tuple(attention),
    )


@dataclass(frozen=True)
class FoundSide:
    """Architecture of the stages of an encoder or decoder, found from its layers.

    Attributes:
        channels: channels of each stage, from the image.
        blocks: residual blocks per stage of the encoder.
        groups: groups of group norms.
    """

    channels: tuple[int, ...]
    blocks: int
    groups: int


def candidates(layers: Sequence[LayerSpec], *, is_decoder: bool) -> Iterator[LatentDiffusionSide]:
    """Possible architectures of an encoder or decoder with these layers, which the caller must compare with them.

    Raises:
        ConfigError: there are no residual blocks with group norms.
    """
    stages: list[list[LayerSpec]] = [[]]
    for layer in layers:
        if layer.name in ("residual-block", "attention"):
            stages[-1].append(layer)
        elif stages[-1] and (layer.name in ("upsample", "resize") or layer.arguments.get("stride") == 2):
            stages.append([])
    found = _sizes(stages, layers, is_decoder=is_decoder)
    # The stage at the latent includes the middle blocks; its attention may belong to either.
    inner = [any(layer.name == "attention" for layer in stage) for stage in stages]
    edge = 0 if is_decoder else -1
    for at_edge, attention in itertools.product((False, True), (True, False)):
        flags = list(inner)
        flags[edge] = at_edge
        if is_decoder:
            flags = flags[::-1]
        yield LatentDiffusionSide(
            channels=found.channels,
            blocks=found.blocks,
            groups=found.groups,
            attention=attention,
            attention_stages=tuple(flags),
        )


def _sizes(stages: Sequence[Sequence[LayerSpec]], layers: Sequence[LayerSpec], *, is_decoder: bool) -> FoundSide:
    """Channels, blocks and groups of the stages."""
    blocks = [[layer for layer in stage if layer.name == "residual-block"] for stage in stages]
    if not all(blocks):
        raise ConfigError("expected residual-block layers in each stage")
    channels = [int(stage[-1 if is_decoder else 0].arguments["channels"]) for stage in blocks]
    norms: list[Any] = [layer.arguments.get("groups", 32) for layer in layers if layer.name in NORMS]
    if not norms:
        raise ConfigError(f"expected a layer {' or '.join(NORMS)}")
    lengths = [len(stage) for stage in blocks]
    lengths[0 if is_decoder else -1] -= 2
    count = lengths[0] - is_decoder
    if count < 1:
        raise ConfigError("expected more residual-block layers in the first stage")
    return FoundSide(tuple(channels[::-1] if is_decoder else channels), count, int(norms[-1]))
