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
    """Anomaly scores of in- and out-of-distribution images, and how well they separate them.

    Attributes:
        scores: of the known images and of the out-of-distribution ones.
        auroc: probability that an out-of-distribution image scores higher than a known one.
        interval: its 95% confidence interval.
        protocol: of both sets of scores.
    """

    scores: tuple[ImageScores, ImageScores]
    auroc: float
    interval: tuple[float, float]
    protocol: dict[str, Any]

    @property
    def known(self) -> Float64[Tensor, " known"]:
        """(image,) score of each known image; higher is more anomalous."""
        return self.scores[0].values

    @property
    def foreign(self) -> Float64[Tensor, " foreign"]:
        """(image,) score of each out-of-distribution image."""
        return self.scores[1].values

    @property
    def unit(self) -> str:
        """Of the scores."""
        return self.scores[0].unit

    def as_dict(self) -> dict[str, Any]:
        """AUROC and protocol: the content of the JSON file."""
        auroc = {"value": self.auroc, "interval": list(self.interval), "unit": "probability"}
        return {"auroc": auroc, "protocol": self.protocol}


def auroc(known: Float[Tensor, " known"], foreign: Float[Tensor, " foreign"]) -> tuple[float, tuple[float, float]]:
    """The probability that an out-of-distribution score is the higher one, ties counting half, and its 95% interval.

    The interval is that of DeLong, DeLong & Clarke-Pearson 1988, clamped to [0, 1]. Its width is 0 where the sets are
    separated perfectly, and unknown for one image: the score interval of Newcombe 2006 (method 5) takes its place.
    """
    a, b = known.double(), foreign.double()

    def place(values: Tensor, among: Tensor) -> Tensor:
        ordered = among.sort().values
        below = torch.searchsorted(ordered, values) + torch.searchsorted(ordered, values, right=True)
        return below.double() / (2 * len(among))

    above_known, below_foreign = place(b, a), 1 - place(a, b)
    value = float(above_known.mean())
    if min(len(a), len(b)) == 1 or value in {0, 1}:
        return value, _score_interval(value, len(a), len(b))
    reach = NORMAL * float((above_known.var() / len(b) + below_foreign.var() / len(a)).sqrt())
    return value, (max(0.0, value - reach), min(1.0, value + reach))


def _score_interval(value: float, known: int, foreign: int) -> tuple[float, float]:
    """The areas from which a measured one is at most 1.96 of their own standard errors away."""

    def is_near(area: float) -> bool:
        extra = ((known + foreign) / 2 - 1) * ((1 - area) / (2 - area) + area / (1 + area))
        return (value - area) ** 2 <= NORMAL**2 * area * (1 - area) * (1 + extra) / (known * foreign)

    ends = []
    for end in (0.0, 1.0):
        far, near = end, value
        for _ in range(60):  # bisections
            middle = (far + near) / 2
            far, near = (far, middle) if is_near(middle) else (middle, near)
        ends.append(near)
    return ends[0], ends[1]


def separate(
    model: VAE,
    known: Split,
    foreign: Split,
    *,
    score: str = "elbo",
    options: dict[str, dict[str, Any]] | None = None,
    seed: int = 0,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> Separation:
    """Scores the images of two splits, and measures how well the scores separate them.

    Args:
        model: the model.
        known: in-distribution images that were not trained on.
        foreign: out-of-distribution images of the same shape.
        score: a metric with one value per image, as for `score_images`.
        options: arguments of the metric, by its name.
        seed: of the drawn latents.
        batch_size: images at a time.
        progress: called with the number of images that are done.

    Raises:
        ConfigError: no such metric, or one without a value per image.
        DataError: a score is not finite.
        ShapeError: the images do not have the model's input shape.
    """
    scored, ood = (
        score_images(model, split, score=score, options=options, seed=seed, batch_size=batch_size, progress=progress)
        for split in (known, foreign)
    )
    value, ends = auroc(scored.values, ood.values)
    protocol = {**scored.protocol, "ood_data": ood.protocol["data"], "score": score}
    return Separation((scored, ood), value, ends, protocol)
