"""Base class of metrics of code usage."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from convae.core.code_usage import CodebookUsage, summarize_usage
from convae.data import Split
from convae.evaluation.metrics.base import CountMetric
from convae.latents import EvalBatch
from convae.model.quantizers.base import Quantizer
from convae.model.vae import VAE


class CodeMetric(CountMetric):
    """A metric of code usage over the split, with a value for each codebook.

    It has no confidence interval, since bootstrap samples have fewer distinct images, which use fewer codes.
    """

    def applies(self, model: VAE, split: Split) -> bool:
        """Whether the model has a quantizer."""
        return any(isinstance(module, Quantizer) for module in model.modules())

    def counts(self, batch: EvalBatch) -> Mapping[str, Tensor]:
        """Number of uses of each code in the batch, (code,) for each codebook."""
        return batch.code_counts

    def measure(self, counts: Mapping[str, Tensor]) -> Mapping[str, float]:
        """The value for each codebook."""
        return {usage.name: self.of_codebook(usage) for usage in summarize_usage(counts)}

    def of_codebook(self, usage: CodebookUsage) -> float:
        """The value of one codebook."""
        raise NotImplementedError
