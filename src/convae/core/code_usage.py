"""How evenly the codes of codebooks are used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from convae.core.posterior import CodePosterior, JointPosterior, Posterior


@dataclass(frozen=True)
class CodeUsage:
    """Usage of one codebook over some images.

    Attributes:
        name: of the codebook: its latent in a hierarchy, and its level in a quantizer with several, such as `0` or
            `latent 1/0`; empty where there is one codebook.
        size: number of codes.
        used: codes that some image uses.
        perplexity: e to the entropy of the usage: the number of codes that would be as varied if used evenly.
    """

    name: str
    size: int
    used: int
    perplexity: float


def codes_by_codebook(posterior: Posterior) -> dict[str, tuple[Tensor, int]]:
    """The codes of each codebook, (batch, place), and its size, by its name; empty without a codebook."""
    if isinstance(posterior, JointPosterior):
        named = {name: codes_by_codebook(part) for name, part in posterior.parts.items()}
        return {f"{name}/{level}".rstrip("/"): codes for name, own in named.items() for level, codes in own.items()}
    if not isinstance(posterior, CodePosterior):
        return {}
    sizes = posterior.codebook_sizes
    names = [str(level) for level in range(len(sizes))] if len(sizes) > 1 else [""]
    return dict(zip(names, zip(posterior.codes_by_level.unbind(1), sizes, strict=True), strict=True))


def count_codes(posterior: Posterior) -> dict[str, Tensor]:
    """How often a batch uses each code, (code,) for each codebook by its name; empty without a codebook."""
    counts = {}
    for name, (codes, size) in codes_by_codebook(posterior).items():
        ones = torch.ones(codes.numel(), device=codes.device)
        counts[name] = torch.zeros(size, device=codes.device).scatter_add_(0, codes.flatten(), ones)
    return counts


def summarize_usage(counts: Mapping[str, Tensor]) -> list[CodeUsage]:
    """The usage of each codebook, from how often each code was used, (code,) by the codebook's name."""
    return [
        CodeUsage(
            name=name,
            size=len(uses),
            used=int((uses > 0).sum()),
            perplexity=float(torch.special.entr(uses / uses.sum()).sum().exp()),
        )
        for name, uses in counts.items()
    ]
