"""How evenly the codes of codebooks are used."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from convae.core.posterior import CodePosterior


@dataclass(frozen=True)
class CodebookUsage:
    """Usage of one codebook over some images.

    Attributes:
        name: of the codebook: the place of its quantizer where there are several, and its level in a quantizer with
            several, such as `0`, `latent 1/0` or `encoder.2`; empty where there is one codebook.
        size: number of codes.
        used: codes that some image uses.
        perplexity: e to the entropy of the usage: the number of codes that would be as varied if used evenly.
    """

    name: str
    size: int
    used: int
    perplexity: float


def codes_by_codebook(quantized: Mapping[str, CodePosterior]) -> dict[str, tuple[Tensor, int]]:
    """The codes of each codebook, (batch, place), and its size, by its name.

    Args:
        quantized: posterior over the codes of each quantizer, by its place.
    """
    found = {}
    for place, posterior in quantized.items():
        sizes = posterior.codebook_sizes
        for level, size in enumerate(sizes):
            name = short_name(f"{place}/{level}" if len(sizes) > 1 else place, quantized)
            found[name] = posterior.codes_by_level[:, level], size
    return found


def short_name(name: str, quantized: Collection[str]) -> str:
    """The name of a codebook without the place of its quantizer, where there is one quantizer.

    Args:
        name: place and levels, such as `latent 1/0`.
        quantized: the places of all quantizers.
    """
    return name if len(quantized) > 1 else name.partition("/")[2]


def count_codes(quantized: Mapping[str, CodePosterior]) -> dict[str, Tensor]:
    """How often a batch uses each code, (code,) for each codebook by its name.

    Args:
        quantized: posterior over the codes of each quantizer, by its place.
    """
    counts = {}
    for name, (codes, size) in codes_by_codebook(quantized).items():
        ones = codes.new_ones(codes.numel())
        counts[name] = codes.new_zeros(size).scatter_add_(0, codes.flatten(), ones)
    return counts


def summarize_usage(counts: Mapping[str, Tensor]) -> list[CodebookUsage]:
    """The usage of each codebook, from how often each code was used, (code,) by the codebook's name."""
    exact = {name: uses.cpu().double() for name, uses in counts.items()}
    return [
        CodebookUsage(
            name=name,
            size=len(uses),
            used=int((uses > 0).sum()),
            perplexity=float(torch.special.entr(uses / uses.sum()).sum().exp()),
        )
        for name, uses in exact.items()
    ]
