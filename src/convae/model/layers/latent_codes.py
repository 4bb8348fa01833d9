"""Codes of a hierarchy, taken inside the decoder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from convae.core.arguments import Positive
from convae.core.context import Context, LatentModule
from convae.core.description import LayerList
from convae.core.errors import ShapeError
from convae.core.names import shape_text
from convae.core.noise import Generators, draw_integers, single_generator
from convae.core.types import Latents, Shape
from convae.model.layers.base import ContextLayer, Network
from convae.model.layers.base.features import feature_shape
from convae.model.quantizers.base import QuantizerEntry, build_quantizer, is_quantizer

NO_LAYERS: list[Any] = []


class LatentCodes(LatentModule, ContextLayer):
    """Codes inside the decoder: one level of a hierarchy of codes (Razavi et al. 2019, arXiv:1906.00446).

    As in VQ-VAE-2, the state x of the decoder and a feature of the encoder together are quantized to z; the output is
    x + projection(z), as of the layer `latent`. Without the feature, as in sampling, the codes are given or drawn
    uniformly; z is 0 where the mean is asked for.

    A quantizer's name is short for the argument: `{feature: fine, vq: {codes: 512}}`.

    Args:
        shape: (channels, *sizes) of the state.
        channels: of the codes; by default the quantizer's own where its arguments decide them.
        feature: name of a feature of the encoder (layer `feature`) with the state's sizes.
        posterior: layers from the state and the feature, concatenated along the channels, to what is quantized; a 1×1
            convolution follows, or a linear layer to a vector.
        quantizer: maps vectors to codes.

    Raises:
        ConfigError: no feature has that name.
        ShapeError: the feature or the output of the list has other sizes than the state.
    """

    example: ClassVar = {"channels": 2, "feature": "example", "quantizer": {"vq": {"codes": 4}}}
    over_positions: ClassVar = True  # its codes are those of the whole image, so it is not computed in slices
    keeps_shape: ClassVar = True
    recomputes: ClassVar = False
    is_discrete = True
    is_diagonal = False

    def __init__(
        self,
        shape: Shape,
        *,
        channels: Positive | None = None,
        feature: str,
        posterior: LayerList = NO_LAYERS,
        quantizer: QuantizerEntry,
    ) -> None:
        super().__init__(shape)
        self.feature = feature
        beside = feature_shape(feature, shape)
        self.quantizer = build_quantizer(quantizer, channels)
        self.latent_shape = (self.quantizer.channels, *shape[1:])
        both = (shape[0] + beside[0], *shape[1:])
        self.posterior = Network(both, [*posterior, _last(shape, self.quantizer.channels)], "posterior")
        self.projection = Network(self.latent_shape, [_last(shape, shape[0])], "projection")
        if self.posterior.shape_out != self.latent_shape:
            raise ShapeError(
                f"posterior: turns {shape_text(self.posterior.shape_in)} into {shape_text(self.posterior.shape_out)}. "
                "Keep the sizes in its list"
            )

    @classmethod
    def expand_arguments(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """The long form, with the quantizer's name as an argument."""
        named = [name for name in given if is_quantizer(name)]
        if len(named) != 1 or "quantizer" in given:
            return given
        rest = {key: value for key, value in given.items() if key != named[0]}
        return {**rest, "quantizer": {named[0]: given[named[0]]}}

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes of each level of the quantizer."""
        return self.quantizer.codebook_sizes

    def forward(self, x: Tensor, context: Context | None = None) -> Tensor:
        """The state, (batch, channel, *sizes), plus the projection of the codes; reports latent and posterior."""
        context = context or Context()
        feature = context.features.get(self.feature)
        if self.stream in context.given:
            z: Tensor = context.given[self.stream]
            context.report_latent(self.stream, z)
        elif feature is None or context.latent_source == "prior":
            is_drawn = context.latent_source == "prior" and context.temperature_of(self.stream) > 0
            zeros = x.new_zeros(x.shape[0], self.latent_shape[0], *x.shape[2:])
            z = self._drawn(x, context.noise_for(self.stream)) if is_drawn else zeros
            context.report_latent(self.stream, z)
        else:
            z = self.quantizer(self.posterior(torch.cat([x, feature], 1), context), context, self.stream)
        return torch.add(x, self.projection(z.to(x.dtype), context))

    def embed_codes(self, codes: Tensor) -> Latents:
        """Code indices, (batch, *code shape), to latents, (batch, *latent)."""
        return self.quantizer.embed_codes(codes)

    def nearest_latents(self, z: Latents) -> Latents:
        """The nearest code vector at each position of the latents."""
        return self.quantizer.posterior(z).mean

    def rescale_usage(self, batch_size: int) -> None:
        """Adapts usage statistics of the codebooks to a global batch size; see `Quantizer.rescale_usage`."""
        self.quantizer.rescale_usage(batch_size * math.prod(self.latent_shape[1:]))

    def reset(self, generator: torch.Generator) -> None:
        """Initializes the quantizer."""
        self.quantizer.reset(generator)

    def _drawn(self, x: Tensor, noise: Generators | None) -> Latents:
        """Vectors of codes drawn uniformly for each position of the state, (batch, channel, *sizes)."""
        grid = tuple(x.shape[2:])
        generators = list(noise) if isinstance(noise, list | tuple) else [single_generator(noise, "codes")]
        count = len(x) // len(generators)
        drawn = [
            torch.stack([draw_integers(size, (count, *grid), own) for size in self.quantizer.codebook_sizes], 1)
            for own in generators
        ]
        codes = torch.cat(drawn).to(x.device)
        return self.quantizer.embed_codes(codes if len(self.quantizer.codebook_sizes) > 1 else codes.squeeze(1))


def _last(shape: Shape, channels: int) -> dict[str, Any]:
    """A 1×1 convolution, or a linear layer of a vector."""
    return {"conv": {"channels": channels, "kernel": 1}} if len(shape) > 1 else {"linear": {"features": channels}}
