"""Perplexity of the codes."""

from __future__ import annotations

from typing import ClassVar

from convae.core.code_usage import CodeUsage
from convae.evaluation.metrics._codes import CodeMetric


class CodePerplexity(CodeMetric):
    """Perplexity of the codes of each codebook: e to the entropy of their frequencies, at most the number of codes.

    A list with a number for each codebook: each quantizer of the model and each of its levels, named as in the log of a
    training (`perplexity`).
    """

    unit: ClassVar = "codes"
    needs: ClassVar = "a quantizer"
    better: ClassVar = "higher"

    def of_codebook(self, usage: CodeUsage) -> float:
        """The perplexity of one codebook."""
        return usage.perplexity
