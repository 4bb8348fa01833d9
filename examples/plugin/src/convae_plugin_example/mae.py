from typing import ClassVar

from torch import Tensor

from convae.evaluation.metrics.base import ImageMetric, Passes


class MAE(ImageMetric):
    """Mean absolute error of the reconstruction from the posterior's mean."""

    unit: ClassVar = "image units"
    better: ClassVar = "lower"

    def rows(self, passes: Passes) -> Tensor:
        return (passes.expected.mean - passes.images).abs().flatten(1).mean(1)
