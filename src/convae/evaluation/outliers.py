"""Out-of-distribution detection: how well an anomaly score separates two sets of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from convae.core.progress import Progress
from convae.data import Split
from convae.evaluation.scores import ImageScores, score_images
from convae.model.vae import VAE

NORMAL = 1.959964
"""The 97.5% quantile of the standard normal."""


@dataclass(frozen=True)
class Separation:
    """Anomaly scores of in-distribution and out-of-distribution (OOD) images, and their AUROC.

    Attributes:
        scores: scores of the in-distribution and of the OOD images.
        auroc: probability that an OOD image has a higher score than an in-distribution image.
        interval: 95% confidence interval of the AUROC.
        protocol: protocol of both sets of scores.
    """

    scores: tuple[ImageScores, ImageScores]
    auroc: float
    interval: tuple[float, float]
    protocol: dict[str, Any]

    @property
    def in_distribution(self) -> Float64[Tensor, " in_distribution"]:
        """Scores of the in-distribution images; higher is more anomalous."""
        return self.scores[0].values

    @property
    def ood(self) -> Float64[Tensor, " ood"]:
        """Scores of the OOD images."""
        return self.scores[1].values

    @property
    def unit(self) -> str:
        """Unit of the scores."""
        return self.scores[0].unit

    def as_dict(self) -> dict[str, Any]:
        """AUROC and protocol, as in the JSON file."""
        auroc = {"value": self.auroc, "interval": list(self.interval), "unit": "probability"}
        return {"auroc": auroc, "protocol": self.protocol}


def auroc(
    in_distribution: Float[Tensor, " in_distribution"], ood: Float[Tensor, " ood"]
) -> tuple[float, tuple[float, float]]:
    """Area under the ROC curve of anomaly scores, and its 95% confidence interval.

    It is the probability that the score of an OOD image is the higher one; ties count half. The interval is that of
    DeLong, DeLong & Clarke-Pearson (1988, doi:10.2307/2531595), clamped to [0, 1]. It is degenerate for perfect
    separation or a single image, where the score interval of Newcombe (2006, doi:10.1002/sim.2324, method 5) is used.
    """
    a, b = in_distribution.double(), ood.double()

    def fraction_below(values: Tensor, others: Tensor) -> Tensor:
        ordered = others.sort().values
        twice = torch.searchsorted(ordered, values) + torch.searchsorted(ordered, values, right=True)
        return twice.double() / (2 * len(others))

    wins_of_ood, wins_over_in = fraction_below(b, a), 1 - fraction_below(a, b)
    value = float(wins_of_ood.mean())
    if min(len(a), len(b)) == 1 or value in {0, 1}:
        return value, _score_interval(value, len(a), len(b))
    margin = NORMAL * float((wins_of_ood.var() / len(b) + wins_over_in.var() / len(a)).sqrt())
    return value, (max(0.0, value - margin), min(1.0, value + margin))


def _score_interval(value: float, m: int, n: int) -> tuple[float, float]:
    """The interval of areas with a standard error at which `value` is within 1.96 standard errors, by bisection."""

    def is_inside(area: float) -> bool:
        extra = ((m + n) / 2 - 1) * ((1 - area) / (2 - area) + area / (1 + area))
        return (value - area) ** 2 <= NORMAL**2 * area * (1 - area) * (1 + extra) / (m * n)

    ends = []
    for end in (0.0, 1.0):
        outside, inside = end, value
        for _ in range(60):
            middle = (outside + inside) / 2
            outside, inside = (outside, middle) if is_inside(middle) else (middle, inside)
        ends.append(inside)
    return ends[0], ends[1]


def separate(
    model: VAE,
    in_distribution: Split,
    ood: Split,
    *,
    score: str = "elbo",
    options: dict[str, dict[str, Any]] | None = None,
    seed: int = 0,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> Separation:
    """Computes anomaly scores of in-distribution and out-of-distribution images, and their AUROC.

    Args:
        model: the model; its training mode does not change.
        in_distribution: images of the training distribution that were not trained on.
        ood: out-of-distribution images of the same shape.
        score: a metric with one value per image, as for `score_images`.
        options: arguments of the metric by its name.
        seed: seed of the posterior samples.
        batch_size: images per batch.
        progress: called with the number of processed images.

    Raises:
        ConfigError: unknown metric, or one without a value per image.
        DataError: a score is not finite.
        ShapeError: the images do not have the input shape of the model.
    """
    first, second = (
        score_images(model, split, score=score, options=options, seed=seed, batch_size=batch_size, progress=progress)
        for split in (in_distribution, ood)
    )
    value, ends = auroc(first.values, second.values)
    protocol = {**first.protocol, "ood_data": second.protocol["data"], "score": score}
    return Separation((first, second), value, ends, protocol)
