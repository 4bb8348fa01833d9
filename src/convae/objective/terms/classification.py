"""Cross-entropy of the classifier."""

from __future__ import annotations

from typing import ClassVar

from torch.nn import functional as F

from convae.core.errors import ConfigError
from convae.core.precision import at_least_float32
from convae.core.types import MISSING_LABEL, PerImage
from convae.objective.terms.base import LossInputs, Term


class Classification(Term):
    """Cross-entropy of the latent classifier, averaged over the labeled images of the batch, nats.

    Images without a label contribute 0. Labeled ones are scaled by batch size / number of labeled images, so that the
    batch mean is the mean over labeled images; both numbers are those of the global batch.
    """

    unit: ClassVar = "nats"

    def forward(self, inputs: LossInputs) -> PerImage:
        """The scaled cross-entropy of each image; 0 without a label."""
        logits = inputs.output.logits
        if logits is None:
            raise ConfigError("the model has no classifier. Add model.classifier")
        if inputs.labels is None:
            raise ConfigError("the data has no labels")
        costs = F.cross_entropy(at_least_float32(logits), inputs.labels, ignore_index=MISSING_LABEL, reduction="none")
        if inputs.labeled_fraction is not None:
            return costs * (1 / inputs.labeled_fraction if inputs.labeled_fraction else 0.0)
        labeled = (inputs.labels != MISSING_LABEL).sum().clamp_min(1)
        return costs * (len(costs) / labeled)
