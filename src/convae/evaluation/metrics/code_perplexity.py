"""Perplexity of code usage."""

from __future__ import annotations

from typing import ClassVar

from convae.core.code_usage import CodebookUsage
from convae.evaluation.metrics._codes import CodeMetric


class CodePerplexity(CodeMetric):
    """Perplexity of code usage: exp(entropy of the frequencies of codes), at most the codebook size.

    A value for each codebook: each level of each quantizer, named as `perplexity` in the training log.
    """

    unit: ClassVar = "codes"
    needs: ClassVar = "a quantizer"
    better: ClassVar = "higher"

    def of_codebook(self, usage: CodebookUsage) -> float:
        """The perplexity of one codebook."""
        return usage.perplexity
