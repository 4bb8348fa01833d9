"""Codes of several quantizers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from convae.model.quantizers.base import CodeIndices, Quantizer


class ComposedQuantizer(Quantizer):
    """A quantizer that is made of others.

    Attributes:
        quantizers: the inner ones, in order.
    """

    quantizers: nn.ModuleList

    @property
    def has_started(self) -> bool:
        """Whether no codes are left to initialize from the first batches of a training."""
        return all(each.has_started for each in self._inner())

    def expect(self, vectors: int) -> None:
        """Prepares the codebooks for another number of vectors in a training step."""
        for each in self._inner():
            each.expect(vectors)

    def reset(self, generator: torch.Generator | None = None) -> None:
        """Initializes the inner quantizers."""
        for each in self._inner():
            each.reset(generator)

    def _inner(self) -> list[Quantizer]:
        return list(self.quantizers)  # type: ignore[arg-type]  # a ModuleList of quantizers


def join_levels(codes: Sequence[CodeIndices], quantizers: Sequence[Quantizer]) -> CodeIndices:
    """The codes of each quantizer to (batch, level, *grid); (batch, *grid) where there is one level in all."""
    levels = [
        own.unsqueeze(1) if len(quantizer.codebook_sizes) == 1 else own
        for own, quantizer in zip(codes, quantizers, strict=True)
    ]
    joined = torch.cat(levels, 1)
    return joined.squeeze(1) if joined.shape[1] == 1 else joined


def split_levels(codes: CodeIndices, quantizers: Sequence[Quantizer]) -> list[CodeIndices]:
    """The reverse of `join_levels`."""
    counts = [len(quantizer.codebook_sizes) for quantizer in quantizers]
    if sum(counts) == 1:
        return [codes]
    return [own.squeeze(1) if own.shape[1] == 1 else own for own in torch.split(codes, counts, 1)]


def joined_terms(quantizers: Sequence[Quantizer]) -> tuple[str, ...]:
    """The required terms of all quantizers, each once."""
    return tuple(dict.fromkeys(term for quantizer in quantizers for term in quantizer.required_terms))
