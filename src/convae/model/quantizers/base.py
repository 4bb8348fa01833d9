"""Quantizer interface."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float, Int64
from pydantic import AfterValidator
from torch import Tensor, nn

from convae.core.arguments import Named
from convae.core.context import Context
from convae.core.entries import Entry, build_entry
from convae.core.errors import ConfigError, ShapeError
from convae.core.names import count_text
from convae.core.posterior import CodePosterior
from convae.core.precision import at_least_float32
from convae.core.registry import canonical_name
from convae.core.slices import batch_slices
from convae.core.types import Latents, PerImage
from convae.model.quantizers import QUANTIZERS

MAX_CODES = 1 << 24
"""Largest codebook size, since metrics count the usage of each code."""

Vectors = Float[Tensor, "vector channel"]
CodeIndices = Int64[Tensor, "..."]
"""(batch, *grid) with one codebook, (batch, level, *grid) with several."""


class Quantizer(nn.Module):
    """Maps vectors to code vectors of one codebook, or of several, called levels.

    The constructor takes the number of channels and keyword-only configuration, and initializes the parameters. It is
    called with None channels if the description does not state them; a quantizer whose configuration determines them,
    such as `fsq`, then sets its own.

    Code indices are int64, (batch, *grid) with one codebook, (batch, level, *grid) with several. A codebook may be
    implicit, without a table of code vectors.

    Args:
        channels: number of channels of a vector.

    Attributes:
        channels: number of channels of a vector.
        codebook_sizes: number of codes of each level.
        required_terms: terms that the objective must contain.
        self_updated_parameters: names of parameters that the forward pass updates in training.
        residual_scale: ratio of the scales of successive levels in `residual`: below 1 for codebooks of fixed scale,
            1 for learned ones.
    """

    example: ClassVar[Mapping[str, Any]] = {}
    codebook_sizes: tuple[int, ...]
    required_terms: tuple[str, ...] = ()
    self_updated_parameters: tuple[str, ...] = ()
    residual_scale: float = 1.0

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def extra_repr(self) -> str:
        """Codebook sizes and channels, for `print(model)`."""
        return f"codes {' + '.join(f'{size:,}' for size in self.codebook_sizes)}, channels {self.channels}"

    def quantize(self, values: Latents, context: Context, stream: str) -> tuple[Latents, CodeIndices]:
        """Code vectors of values, with a gradient for the values, and code indices.

        Reports loss terms to the context. In training mode, updates codebooks that are trained without gradients.

        Args:
            values: (batch, channel, *grid), in float32 or wider.
            context: context of the forward pass.
            stream: name of its noise stream, unique in the model.
        """
        raise NotImplementedError

    def nearest(self, values: Latents) -> CodeIndices:
        """Code indices of values, (batch, channel, *grid), in float32 or wider; without side effects."""
        raise NotImplementedError

    def embed_codes(self, codes: CodeIndices) -> Latents:
        """Code vectors, (batch, channel, *grid), of code indices."""
        raise NotImplementedError

    def posterior(self, values: Latents) -> CodePosterior:
        """Posterior over codes of values, (batch, channel, *grid); without side effects."""
        values = at_least_float32(values)
        codes = self.nearest(values)
        return CodePosterior(self.embed_codes(codes).to(values.dtype), codes, self.codebook_sizes)

    def forward(self, values: Latents, context: Context | None = None, stream: str = "codes") -> Latents:
        """Code vectors of values; reports loss terms, the posterior and the latent to the context.

        Args:
            values: (batch, channel, *grid) of any floating dtype; computed in float32 or wider.
            context: context of the forward pass.
            stream: name of its noise stream and of the reported latent, unique in the model.
        """
        context = context or Context()
        # Levels that share a codebook all see its state before the step.
        with batch_slices() if self.training else contextlib.nullcontext():
            latent, codes = self.quantize(at_least_float32(values), context, stream)
        context.report_latent(stream, latent, CodePosterior(latent, codes, self.codebook_sizes))
        return latent

    @property
    def is_initialized(self) -> bool:
        """Whether all codes are initialized; otherwise the next training batches initialize them."""
        return True

    def rescale_usage(self, vectors: int) -> None:
        """Adapts usage statistics of trained codebooks to a number of vectors per training step."""

    def reset(self, generator: torch.Generator | None = None) -> None:
        """Initializes parameters and buffers; the generator is one of the CPU."""


def build_quantizer(written: Named, channels: int | None) -> Quantizer:
    """Builds a quantizer from its name and arguments.

    Args:
        written: its name, or a mapping of the name to its arguments.
        channels: number of channels of a vector; None if the arguments determine it.

    Raises:
        ConfigError: unknown quantizer or invalid arguments.
        ShapeError: the quantizer does not support this number of channels.
    """
    quantizer: Quantizer = build_entry(QUANTIZERS, written, channels)
    return quantizer


QuantizerEntry = Annotated[Named, AfterValidator(Entry(QUANTIZERS))]
"""Type of arguments that are quantizers: a name, or a mapping of the name to its arguments."""


def is_quantizer(name: str) -> bool:
    """Whether a quantizer is registered under this name; False for dotted paths."""
    return canonical_name(name) in QUANTIZERS.names()


def require_channels(channels: int | None, needed: int, reason: str) -> int:
    """Checks the channels of a quantizer whose arguments determine them, and returns their number.

    Raises:
        ShapeError: the vectors have another number of channels than `needed`, for the given reason.
    """
    if channels not in (None, needed):
        raise ShapeError(f"expected {count_text(needed, 'channel')} ({reason}), got {channels}")
    return needed


def require_known_channels(channels: int | None) -> int:
    """Checks that the channels of a quantizer are known, for one whose arguments do not determine them.

    Raises:
        ConfigError: they are unknown.
    """
    if channels is None:
        raise ConfigError("'latent' is missing. Set the number of channels of a code vector")
    return channels


def require_codes(count: int) -> int:
    """Checks that a codebook size is within the limit, and returns it.

    Raises:
        ConfigError: it exceeds the limit.
    """
    if count > MAX_CODES:
        raise ConfigError(f"{count:,} codes exceed the limit of {MAX_CODES:,}. Use fewer, or several codebooks")
    return count


def to_vectors(values: Latents) -> Vectors:
    """Values, (batch, channel, *grid), to vectors, (vector, channel)."""
    return values.movedim(1, -1).flatten(0, -2)


def to_grid(rows: Tensor, values: Latents) -> Tensor:
    """Rows, (vector, …), to (batch, *grid, …), for values of shape (batch, channel, *grid)."""
    return rows.view(values.shape[0], *values.shape[2:], *rows.shape[1:])


def squared_distance(one: Latents, other: Latents) -> PerImage:
    """Squared Euclidean distance per image, summed over channels and grid, for shapes (batch, channel, *grid)."""
    return (one - other).square().flatten(1).sum(1)


def vectors_per_image(values: Latents) -> int:
    """Number of vectors per image in values, (batch, channel, *grid)."""
    return math.prod(values.shape[2:])
