"""Quantizer interface: vectors to the codes of one or several codebooks."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float, Int64
from pydantic import AfterValidator
from torch import Tensor, nn

from convae.core.arguments import Named, parse_arguments, split_name
from convae.core.context import Context
from convae.core.entries import canonical_entry
from convae.core.errors import ConfigError, ShapeError
from convae.core.posterior import CodePosterior
from convae.core.precision import at_least_float32
from convae.core.registry import canonical_name
from convae.core.slices import batch_slices
from convae.core.types import Latents, PerImage
from convae.model.quantizers import QUANTIZERS

MAX_CODES = 1 << 24
"""Largest codebook: its usage is counted code by code."""

Vectors = Float[Tensor, "vector channel"]
CodeIndices = Int64[Tensor, "..."]
"""(batch, *grid) of a quantizer with one codebook, (batch, level, *grid) of one with several."""


class Quantizer(nn.Module):
    """Replaces vectors by the nearest codes of one codebook, or of several, its levels.

    The constructor takes the channels of the vectors, and its configuration as keyword-only arguments; it initializes
    its parameters. The channels are None where nothing decides them: a quantizer whose arguments decide them, such as
    `fsq`, takes its own.

    Code indices are int64, (batch, *grid) with one codebook, (batch, level, *grid) with several. Codes may be implicit:
    not every quantizer has a table of code vectors.

    Args:
        channels: of the vectors.

    Attributes:
        channels: of the vectors.
        codebook_sizes: number of codes of each level.
        required_terms: loss terms that an objective must contain to train it.
        self_updated_parameters: names of parameters that the forward pass updates in training.
        residual_scale: factor from the values that one level of a residual quantizer quantizes to those of the next:
            1 for a codebook that adapts to what it quantizes.
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
        """The codebooks, for `print(model)`."""
        return f"codes {' + '.join(f'{size:,}' for size in self.codebook_sizes)}, channels {self.channels}"

    def quantize(self, values: Latents, context: Context, stream: str) -> tuple[Latents, CodeIndices]:
        """The code vectors of values, with a gradient for the values, and the code indices.

        Reports loss terms to the context. In training mode, codebooks that are updated without gradients are updated.

        Args:
            values: (batch, channel, *grid), in float32 or wider.
            context: of the forward pass.
            stream: name of the noise that it draws from, unique in the model.
        """
        raise NotImplementedError

    def nearest(self, values: Latents) -> CodeIndices:
        """The code indices of values, (batch, channel, *grid), in float32 or wider; changes nothing."""
        raise NotImplementedError

    def embed_codes(self, codes: CodeIndices) -> Latents:
        """Code indices to code vectors, (batch, channel, *grid)."""
        raise NotImplementedError

    def posterior(self, values: Latents) -> CodePosterior:
        """The posterior over codes of values, (batch, channel, *grid), in float32 or wider; changes nothing."""
        values = at_least_float32(values)
        codes = self.nearest(values)
        return CodePosterior(self.embed_codes(codes).to(values.dtype), codes, self.codebook_sizes)

    def forward(self, values: Latents, context: Context | None = None, stream: str = "codes") -> Latents:
        """Values, (batch, channel, *grid), to code vectors; reports loss terms, the posterior and the latent.

        Args:
            values: of any floating type; computed with in float32 or wider.
            context: of the forward pass.
            stream: name of its noise and of the latent that it reports, unique in the model.
        """
        context = context or Context()
        # A codebook that several levels share stays the same within a step.
        with batch_slices() if self.training else contextlib.nullcontext():
            latent, codes = self.quantize(at_least_float32(values), context, stream)
        context.report_latent(stream, latent, CodePosterior(latent, codes, self.codebook_sizes))
        return latent

    @property
    def has_started(self) -> bool:
        """Whether no codes are left to initialize from the first batches of a training."""
        return True

    def expect(self, vectors: int) -> None:
        """Prepares trained codebooks for another number of vectors in a training step."""

    def reset(self, generator: torch.Generator | None = None) -> None:
        """Initializes parameters and buffers, with a CPU generator."""


def build_quantizer(written: Named, channels: int | None) -> Quantizer:
    """Builds a quantizer from its name and arguments.

    Args:
        written: its name, or a mapping of the name to its arguments.
        channels: of the vectors; None where the quantizer's own arguments decide them.

    Raises:
        ConfigError: there is no such quantizer, or its arguments are wrong.
        ShapeError: it does not quantize vectors of so many channels.
    """
    name, given = split_name(written, "quantizer")
    target = QUANTIZERS.get(name)
    checked = parse_arguments(target, given, f"quantizer {name}")
    try:
        made: Quantizer = target(channels, **checked)
    except (ConfigError, ShapeError) as error:
        raise type(error)(f"quantizer {canonical_name(name)}: {error}") from error
    return made


QuantizerEntry = Annotated[Named, AfterValidator(partial(canonical_entry, QUANTIZERS))]
"""The type of an argument that is itself a quantizer: its name, or a mapping of the name to its arguments."""


def is_quantizer(name: str) -> bool:
    """Whether a name is that of a registered quantizer; a dotted path is not, as it may be anything."""
    return canonical_name(name) in QUANTIZERS.names()


def require_channels(channels: int | None, needed: int, reason: str) -> int:
    """The channels of the vectors of a quantizer whose arguments decide them.

    Raises:
        ShapeError: the vectors have others; `reason` says why it needs its own.
    """
    if channels not in (None, needed):
        raise ShapeError(f"quantizes vectors of {needed} channels ({reason}), got {channels}")
    return needed


def require_codes(count: int) -> int:
    """A codebook size that is within the limit.

    Raises:
        ConfigError: it is not.
    """
    if count > MAX_CODES:
        raise ConfigError(f"has {count:,} codes, more than {MAX_CODES:,}. Use fewer, or several codebooks")
    return count


def to_vectors(values: Latents) -> Vectors:
    """(batch, channel, *grid) to (vector, channel)."""
    return values.movedim(1, -1).flatten(0, -2)


def to_grid(rows: Tensor, values: Latents) -> Tensor:
    """(vector, …) to the grid of values, (batch, channel, *grid): (batch, *grid, …)."""
    return rows.view(values.shape[0], *values.shape[2:], *rows.shape[1:])


def squared_distance(one: Latents, other: Latents) -> PerImage:
    """Squared distance of each image's vectors, summed over the grid."""
    return (one - other).square().flatten(1).sum(1)


def count_places(values: Latents) -> int:
    """Number of vectors of an image in values, (batch, channel, *grid)."""
    return math.prod(values.shape[2:])
