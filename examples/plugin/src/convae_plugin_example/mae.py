from typing import ClassVar

from torch import Tensor

from convae.evaluation import ImageMetric
from convae.latents import EvalBatch


class MAE(ImageMetric):
    """Mean absolute error of the reconstruction from the posterior's mean."""

    unit: ClassVar = "image units"
    better: ClassVar = "lower"

    def rows(self, batch: EvalBatch) -> Tensor:
        return (batch.reconstruction.mean - batch.images).abs().flatten(1).mean(1)
