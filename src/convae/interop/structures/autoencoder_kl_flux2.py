"""`AutoencoderKLFlux2` of diffusers."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch

from convae.core.arguments import Positive, PositiveFloat
from convae.core.errors import ArtifactError, ConfigError
from convae.interop.structures._latent_diffusion import (
    DownBlocks,
    LatentDiffusion,
    SampleSize,
    UpBlocks,
    config_of_sides,
)
from convae.interop.structures.autoencoder_kl import describe_gaussian, quant_convs, require_gaussian
from convae.interop.structures.base import Blocks, Stages, require_equal_images
from convae.model.provenance import LatentScale
from convae.model.published.latent_diffusion import LatentDiffusionSide
from convae.model.vae import VAE
from convae.model.weights import State

_MEAN, _VARIANCE, _COUNT = "bn.running_mean", "bn.running_var", "bn.num_batches_tracked"


class AutoencoderKLFlux2(LatentDiffusion):
    """The autoencoder of FLUX.2: preset `flux-2`, with running statistics of patches of latents.

    The arguments are the keys of its `config.json`. The statistics are the latent scale of the model.
    """

    class_name: ClassVar = "AutoencoderKLFlux2"
    settings: ClassVar = ("batch_norm_eps", "batch_norm_momentum")

    def __init__(
        self,
        *,
        in_channels: Positive = 3,
        out_channels: Positive = 3,
        down_block_types: DownBlocks = ("DownEncoderBlock2D",) * 4,
        up_block_types: UpBlocks = ("UpDecoderBlock2D",) * 4,
        block_out_channels: Stages = (128, 256, 512, 512),
        decoder_block_out_channels: Stages | None = None,
        layers_per_block: Blocks = 2,
        act_fn: Literal["silu", "swish"] = "silu",
        latent_channels: Positive = 32,
        norm_num_groups: Positive = 32,
        sample_size: SampleSize = 1024,
        force_upcast: bool = True,
        use_quant_conv: bool = True,
        use_post_quant_conv: bool = True,
        mid_block_add_attention: bool = True,
        batch_norm_eps: PositiveFloat = 1e-4,
        batch_norm_momentum: PositiveFloat = 0.1,
        patch_size: tuple[Positive, Positive] = (2, 2),
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
            replace(side, channels=decoder_block_out_channels or block_out_channels),
            down_block_types,
            up_block_types,
            images=(in_channels, sample_size, sample_size),
            features=features,
            quant_conv=features if use_quant_conv else None,
            post_quant_conv=latent_channels if use_post_quant_conv else None,
        )
        self._latent = latent_channels
        self._eps, self._patch = batch_norm_eps, patch_size

    @classmethod
    def config_of(cls, model: VAE, encoder: LatentDiffusionSide, decoder: LatentDiffusionSide) -> dict[str, Any]:
        """The configuration of a model with this encoder and decoder, whose latent scale is one of patches."""
        require_gaussian(model)
        scale = model.provenance.latent_scale
        if scale is None or not scale.patch:
            raise ConfigError("its latent scale is not one of patches")
        latent = model.latent_shape[0]
        if not len(scale.mean) == len(scale.std) == latent * math.prod(scale.patch):
            raise ConfigError("its latent scale needs one value for each channel of a patch")
        same = encoder.channels == decoder.channels
        return {
            **config_of_sides(encoder, decoder, model.input_shape),
            **quant_convs(model),
            "decoder_block_out_channels": None if same else list(decoder.channels),
            "latent_channels": latent,
            "patch_size": list(scale.patch),
        }

    def bottleneck(self) -> dict[str, Any]:
        """A diagonal Gaussian without a head."""
        return describe_gaussian(self._latent)

    def ignored_tensors(self) -> tuple[str, ...]:
        """The statistics of patches."""
        return (_MEAN, _VARIANCE, _COUNT)

    def latent_scale(self, state: State) -> LatentScale:
        """The statistics of each channel of a patch."""
        channels = self._latent * math.prod(self._patch)
        for name in (_MEAN, _VARIANCE):
            if name not in state or state[name].shape != (channels,):
                raise ArtifactError(f"not the weights of {self.class_name}: {name}: expected {channels} values")
        variance = state[_VARIANCE].double()
        if not bool(state[_MEAN].isfinite().all() and variance.isfinite().all() and (variance >= 0).all()):
            raise ArtifactError(f"not the weights of {self.class_name}: invalid statistics bn of latents")
        std = (variance + self._eps).sqrt()
        return LatentScale(
            mean=tuple(state[_MEAN].double().tolist()),
            std=tuple(std.tolist()),
            patch=self._patch,
            source=_MEAN.partition(".")[0],
        )

    def export_further(self, scale: LatentScale | None) -> State:
        """The statistics of patches."""
        assert scale is not None  # checked by of_model
        std = torch.tensor(scale.std, dtype=torch.float64)
        return {
            _MEAN: torch.tensor(scale.mean, dtype=torch.float64).float(),
            _VARIANCE: (std.square() - self._eps).clamp_min(0).float(),
            _COUNT: torch.zeros((), dtype=torch.int64),
        }

    def published(self) -> dict[str, Any]:
        """The configuration for `config.json`, without a key that diffusers does not save."""
        return {key: value for key, value in super().published().items() if key != "force_upcast"}
