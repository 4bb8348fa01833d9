"""Fraction of the codes in use."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float64
from torch import Tensor

from convae.evaluation.metrics._codes import MAX_CODES, CodeMetric


class CodeUsage(CodeMetric):
    """Fraction of the codes of each codebook that some image uses: the rest are dead codes.

    A list with a number for each codebook: each level of a quantizer, from the top of a hierarchy. For up to 4,096
    codes in all; the log of a training has it for any number (`codes_used`).
    """

    unit: ClassVar = "fraction of the codes"
    needs: ClassVar = f"codes, of {MAX_CODES:,} in all at most"
    better: ClassVar = "higher"
    per_value: ClassVar = True

    def value(self, means: Float64[Tensor, "*some column"]) -> Float64[Tensor, "*some part"]:
        """The fraction for each codebook."""
        return torch.stack([(uses > 0).double().mean(-1) for uses in self.usage(means)], -1)
