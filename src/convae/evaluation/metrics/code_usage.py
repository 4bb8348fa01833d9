"""Fraction of codes in use."""

from __future__ import annotations

from typing import ClassVar

from convae.core.code_usage import CodebookUsage
from convae.evaluation.metrics._codes import CodeMetric


class CodeUsage(CodeMetric):
    """Fraction of codes that any image uses; the others are dead codes.

    A value for each codebook: each level of each quantizer, named as `codes_used` in the training log.
    """

    unit: ClassVar = "fraction of the codes"
    needs: ClassVar = "a quantizer"
    better: ClassVar = "higher"

    def of_codebook(self, usage: CodebookUsage) -> float:
        """The fraction of one codebook."""
        return usage.used / usage.size
