"""Fraction of the codes in use."""

from __future__ import annotations

from typing import ClassVar

from convae.core.code_usage import CodeUsage as Usage
from convae.evaluation.metrics._codes import CodeMetric


class CodeUsage(CodeMetric):
    """Fraction of the codes of each codebook that some image uses: the rest are dead codes.

    A list with a number for each codebook: each quantizer of the model and each of its levels, named as in the log of a
    training (`codes_used`).
    """

    unit: ClassVar = "fraction of the codes"
    needs: ClassVar = "a quantizer"
    better: ClassVar = "higher"

    def of_codebook(self, usage: Usage) -> float:
        """The fraction of one codebook."""
        return usage.used / usage.size
