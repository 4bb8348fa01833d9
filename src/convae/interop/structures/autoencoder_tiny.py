"""`AutoencoderTiny` of diffusers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal

from convae.core.arguments import Positive
from convae.core.description import LayerSpec
from convae.core.errors import ConfigError
from convae.core.types import Shape
from convae.interop.structures._deterministic import SIZE, Counts, DeterministicStructure, require_deterministic
from convae.interop.structures.base import Number, Stages, Structure, require_equal_images
from convae.model.provenance import LatentScale
from convae.model.published.layers import PublishedLayer
from convae.model.published.taesd import decoder_layers, encoder_layers
from convae.model.vae import VAE


class AutoencoderTiny(DeterministicStructure):
    """The small autoencoders TAESD, TAESDXL, TAESD3 and TAEF1: preset `taesd`.

    The arguments are the keys of its `config.json`. `forward` of diffusers also rounds latents to 8 bits, unlike its
    `encode` and `decode`.
    """

    class_name: ClassVar = "AutoencoderTiny"
    settings: ClassVar = ("latent_magnitude", "latent_shift")

    def __init__(
        self,
        *,
        in_channels: Positive = 3,
        out_channels: Positive = 3,
        encoder_block_out_channels: Stages = (64, 64, 64, 64),
        decoder_block_out_channels: Stages = (64, 64, 64, 64),
        block_out_channels: Stages | None = None,
        act_fn: Literal["relu", "gelu", "silu", "swish"] = "relu",
        upsample_fn: Literal["nearest", "bilinear"] = "nearest",
        latent_channels: Positive = 4,
        upsampling_scaling_factor: Literal[2] = 2,
        num_encoder_blocks: Counts = (1, 3, 3, 3),
        num_decoder_blocks: Counts = (3, 3, 3, 1),
        latent_magnitude: Number = 3,
        latent_shift: Number = 0.5,
        force_upcast: bool = False,
        scaling_factor: Number = 1.0,
        shift_factor: Number = 0.0,
    ) -> None:
        require_equal_images(in_channels, out_channels)
        pairs = {
            "encoder": (encoder_block_out_channels, num_encoder_blocks),
            "decoder": (decoder_block_out_channels, num_decoder_blocks),
        }
        for side, (channels, blocks) in pairs.items():
            if len(channels) != len(blocks):
                raise ConfigError(f"config.json: num_{side}_blocks needs {len(channels)} entries, one for each stage")
            if len(set(channels)) > 1:
                raise ConfigError(f"config.json: {side}_block_out_channels must be equal, got {list(channels)}")
        if len(num_encoder_blocks) != len(num_decoder_blocks):
            raise ConfigError("config.json: num_encoder_blocks and num_decoder_blocks need the same number of stages")
        self._encoder, self._decoder = pairs["encoder"], pairs["decoder"]
        self._images, self._latent = (in_channels, SIZE, SIZE), latent_channels
        self._act = "silu" if act_fn == "swish" else act_fn
        self._mode = "nearest" if upsample_fn == "nearest" else "linear"
        self._scale = LatentScale(mean=(shift_factor,) if shift_factor else (), factor=scaling_factor)

    @classmethod
    def of_model(cls, model: VAE) -> Structure:
        """The structure of a model; see `Structure.of_model`."""
        require_deterministic(model)
        encoder, decoder = model.spec.encoder, model.spec.decoder
        if len(encoder) < 2 or len(decoder) < 4 or decoder[0].name != "soft-clip":
            raise ConfigError("decoder[0]: expected soft-clip")
        scale = model.provenance.latent_scale or LatentScale()
        if len(scale.mean) > 1 or scale.std:
            raise ConfigError("its latent scale has a value per channel, which the configuration does not support")
        ups = [layer for layer in decoder if layer.name == "upsample"]
        counts = {"encoder": _counts(encoder, "stride"), "decoder": _counts(decoder, "upsample")}
        widths = {"encoder": encoder[0].arguments.get("channels"), "decoder": decoder[1].arguments.get("channels")}
        return cls.read_of(
            model,
            {
                "in_channels": model.input_shape[0],
                "out_channels": model.input_shape[0],
                "encoder_block_out_channels": [widths["encoder"]] * len(counts["encoder"]),
                "decoder_block_out_channels": [widths["decoder"]] * len(counts["decoder"]),
                "act_fn": decoder[2].name,
                "upsample_fn": "bilinear" if ups and ups[0].arguments.get("mode") == "linear" else "nearest",
                "latent_channels": model.latent_shape[0],
                "num_encoder_blocks": counts["encoder"],
                "num_decoder_blocks": counts["decoder"],
                "scaling_factor": scale.factor,
                "shift_factor": scale.mean[0] if scale.mean else 0.0,
            },
        )

    def encoder(self) -> list[PublishedLayer]:
        """Images in [0, 1] to latents."""
        return encoder_layers(*self._encoder, self._latent, self._act)

    def decoder(self, sizes: Shape) -> list[PublishedLayer]:
        """Latents to images in [0, 1]."""
        return decoder_layers(*self._decoder, self._images[0], sizes, self._act, self._mode)

    def published(self) -> dict[str, Any]:
        """The configuration for `config.json`, without a redundant key."""
        return {key: value for key, value in super().published().items() if key != "block_out_channels"}


def _counts(layers: Sequence[LayerSpec], border: str) -> list[int]:
    """The number of residual blocks of each stage; strided convolutions or upsampling separate stages."""

    def find() -> Iterator[int]:
        count = 0
        for layer in layers:
            if layer.name == border or (layer.name == "conv" and border in layer.arguments):
                yield count
                count = 0
            count += layer.name == "residual"
        yield count

    return list(find())
