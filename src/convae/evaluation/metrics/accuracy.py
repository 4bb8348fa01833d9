"""How often the classifier on the latent names the class of an image."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from convae.data import Split
from convae.evaluation.metrics.base import Encoded, LatentMetric
from convae.model.vae import VAE


class Accuracy(LatentMetric):
    """Accuracy of the model's own classifier at the posterior mean; images without a label are left out."""

    unit: ClassVar = "fraction"
    better: ClassVar = "higher"

    def applies(self, model: VAE, split: Split) -> bool:
        """Whether the model has a classifier and some images have labels."""
        return model.classifier is not None and split.labels is not None and bool((split.labels >= 0).any())

    def rows(self, encoded: Encoded) -> Tensor:
        """(labeled image,): 1 where the class was found."""
        assert encoded.labels is not None  # the metric applies to nothing else
        known = encoded.labels >= 0
        parameter = next(encoded.model.parameters())
        named = [
            encoded.model.classify(part.to(parameter.device, parameter.dtype)).argmax(1).cpu()
            for part in torch.split(encoded.mean[known], 4096)
        ]
        return (torch.cat(named) == encoded.labels[known]).double()
