"""Quantizers composed of other quantizers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from convae.model.quantizers.base import CodeIndices, Quantizer


class ComposedQuantizer(Quantizer):
    """A quantizer composed of others.

    Attributes:
        quantizers: the inner quantizers, in order.
    """

    quantizers: nn.ModuleList

    @property
    def is_initialized(self) -> bool:
        """Whether all codebooks are initialized."""
        return all(each.is_initialized for each in self._inner())

    def rescale_usage(self, vectors: int) -> None:
        """Adapts usage statistics to a number of vectors per training step."""
        for each in self._inner():
            each.rescale_usage(vectors)

    def reset(self, generator: torch.Generator | None = None) -> None:
        """Initializes the inner quantizers."""
        for each in self._inner():
            each.reset(generator)

    def _inner(self) -> list[Quantizer]:
        return list(self.quantizers)  # type: ignore[arg-type]  # a ModuleList of quantizers


def join_levels(codes: Sequence[CodeIndices], quantizers: Sequence[Quantizer]) -> CodeIndices:
    """Concatenates the codes of quantizers to (batch, level, *grid), or (batch, *grid) if there is only one level."""
    levels = [
        each.unsqueeze(1) if len(quantizer.codebook_sizes) == 1 else each
        for each, quantizer in zip(codes, quantizers, strict=True)
    ]
    joined = torch.cat(levels, 1)
    return joined.squeeze(1) if joined.shape[1] == 1 else joined


def split_levels(codes: CodeIndices, quantizers: Sequence[Quantizer]) -> list[CodeIndices]:
    """The inverse of `join_levels`: the codes of each quantizer."""
    counts = [len(quantizer.codebook_sizes) for quantizer in quantizers]
    if sum(counts) == 1:
        return [codes]
    return [each.squeeze(1) if each.shape[1] == 1 else each for each in torch.split(codes, counts, 1)]


def union_of_terms(quantizers: Sequence[Quantizer]) -> tuple[str, ...]:
    """The required terms of quantizers, without duplicates."""
    return tuple(dict.fromkeys(term for quantizer in quantizers for term in quantizer.required_terms))
