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


def count_codes(posterior: Posterior) -> dict[str, Tensor]:
    """How often a batch uses each code, (code,) for each codebook by its name; empty without a codebook."""
    if isinstance(posterior, JointPosterior):
        named = {name: count_codes(part) for name, part in posterior.parts.items()}
        return {f"{name}/{level}".rstrip("/"): uses for name, own in named.items() for level, uses in own.items()}
    if not isinstance(posterior, CodePosterior):
        return {}
    counts = {}
    for level, size in enumerate(posterior.codebook_sizes):
        codes = posterior.codes_by_level[:, level].flatten()
        ones = torch.ones(codes.numel(), device=codes.device)
        name = str(level) if len(posterior.codebook_sizes) > 1 else ""
        counts[name] = torch.zeros(size, device=codes.device).scatter_add_(0, codes, ones)
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
