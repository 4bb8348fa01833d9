"""What the metrics of codes share: how often each image uses each code."""

from __future__ import annotations

import torch
from jaxtyping import Float64
from torch import Tensor

from convae.core.code_usage import codes_by_codebook
from convae.data import Split
from convae.evaluation.metrics.base import ImageMetric
from convae.latents import EvalBatch
from convae.model.vae import VAE

MAX_CODES = 4096
"""Codes of all codebooks together: each image adds one number a code."""


class CodeMetric(ImageMetric):
    """A metric of the usage of codes over the split, a number for each codebook."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def applies(self, model: VAE, split: Split) -> bool:
        """Whether all latents are codes, of few enough codes to count them image by image."""
        self.sizes = [size for module in model.latent_modules for size in module.codebook_sizes]
        return all(module.is_discrete for module in model.latent_modules) and sum(self.sizes) <= MAX_CODES

    def rows(self, batch: EvalBatch) -> Tensor:
        """(batch, code): how often each image uses each code, the codebooks one after the other."""
        counts = []
        for codes, size in codes_by_codebook(batch.posterior).values():
            uses = torch.zeros(len(codes), size, device=codes.device)
            counts.append(uses.scatter_add_(1, codes, torch.ones_like(codes, dtype=uses.dtype)))
        return torch.cat(counts, 1)

    def usage(self, means: Float64[Tensor, "*some code"]) -> list[Float64[Tensor, "*some own"]]:
        """The frequencies of the codes of each codebook."""
        return [uses / uses.sum(-1, keepdim=True) for uses in means.split(self.sizes, -1)]
