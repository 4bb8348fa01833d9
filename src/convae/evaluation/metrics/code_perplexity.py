"""Perplexity of the codes."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float64
from torch import Tensor

from convae.evaluation.metrics._codes import MAX_CODES, CodeMetric


class CodePerplexity(CodeMetric):
    """Perplexity of the codes of each codebook: e to the entropy of their frequencies, at most the number of codes.

    A list with a number for each codebook: each level of a quantizer, from the top of a hierarchy. For up to 4,096
    codes in all; the log of a training has it for any number (`perplexity`).
    """

    unit: ClassVar = "codes"
    needs: ClassVar = f"codes, of {MAX_CODES:,} in all at most"
    better: ClassVar = "higher"
    per_value: ClassVar = True

    def value(self, means: Float64[Tensor, "*some column"]) -> Float64[Tensor, "*some part"]:
        """The perplexity for each codebook."""
        return torch.stack([torch.special.entr(uses).sum(-1).exp() for uses in self.usage(means)], -1)
