"""Accuracy of the classifier of the model."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from convae.data import Split
from convae.evaluation.metrics.base import EncodedSplit, LatentMetric
from convae.model.vae import VAE


class Accuracy(LatentMetric):
    """Accuracy of the model's classifier at the posterior mean; unlabeled images are omitted."""

    unit: ClassVar = "fraction"
    better: ClassVar = "higher"
    needs: ClassVar = "a classifier in the model, and labels"

    def applies(self, model: VAE, split: Split) -> bool:
        """Whether the model has a classifier, and any image a label."""
        return model.classifier is not None and split.labels is not None and bool((split.labels >= 0).any())

    def rows(self, encoded: EncodedSplit) -> Tensor:
        """(labeled image,): 1 for correct classes, 0 for others."""
        assert encoded.labels is not None  # `applies` requires them
        known = encoded.labels >= 0
        parameter = next(encoded.model.parameters())
        predicted = [
            encoded.model.classify(part.to(parameter.device, parameter.dtype)).argmax(1).cpu()
            for part in torch.split(encoded.mean[known], 4096)
        ]
        return (torch.cat(predicted) == encoded.labels[known]).double()
