"""Images of another kind: how well a score tells them from those that a model knows."""

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
    """Scores of known and foreign images, and how well they part.

    Attributes:
        scores: of the known images and of the foreign ones.
        auroc: probability that a foreign image scores higher than a known one.
        interval: its 95% confidence interval.
        protocol: of both sets of scores.
    """

    scores: tuple[ImageScores, ImageScores]
    auroc: float
    interval: tuple[float, float]
    protocol: dict[str, Any]

    @property
    def known(self) -> Float64[Tensor, " known"]:
        """(image,) score of each known image; higher is stranger."""
        return self.scores[0].values

    @property
    def foreign(self) -> Float64[Tensor, " foreign"]:
        """(image,) of each foreign one."""
        return self.scores[1].values

    @property
    def unit(self) -> str:
        """Of the scores."""
        return self.scores[0].unit

    def as_dict(self) -> dict[str, Any]:
        """The figure and its protocol: what goes into the JSON file."""
        auroc = {"value": self.auroc, "interval": list(self.interval), "unit": "probability"}
        return {"auroc": auroc, "protocol": self.protocol}


def auroc(known: Float[Tensor, " known"], foreign: Float[Tensor, " foreign"]) -> tuple[float, tuple[float, float]]:
    """The probability that a foreign score is higher than a known one, ties counting half, and its 95% interval.

    The interval is that of DeLong, DeLong & Clarke-Pearson 1988, cut to [0, 1].
    """
    a, b = known.double(), foreign.double()

    def place(values: Tensor, among: Tensor) -> Tensor:
        ordered = among.sort().values
        below = torch.searchsorted(ordered, values) + torch.searchsorted(ordered, values, right=True)
        return below.double() / (2 * len(among))

    above_known, below_foreign = place(b, a), 1 - place(a, b)
    value = float(above_known.mean())
    parts = [part.var() / len(part) if len(part) > 1 else torch.zeros(()) for part in (above_known, below_foreign)]
    reach = NORMAL * float((parts[0] + parts[1]).sqrt())
    return value, (max(0.0, value - reach), min(1.0, value + reach))


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
    """Scores the images of two splits, and measures how well the scores part them.

    Args:
        model: trained on images of the known kind.
        known: such images, not seen in training.
        foreign: others, brought to the same shape.
        score: a metric with one figure for each image, as for `score_images`.
        options: arguments of the metric, by its name.
        seed: of the drawn latents.
        batch_size: images at a time.
        progress: told how many images are done.

    Raises:
        ConfigError: no such metric, or one without a figure for each image.
        DataError: a score is not finite.
        ShapeError: the images have not the model's shape.
    """
    scored, against = (
        score_images(model, split, score=score, options=options, seed=seed, batch_size=batch_size, progress=progress)
        for split in (known, foreign)
    )
    value, ends = auroc(scored.values, against.values)
    protocol = {**scored.protocol, "against": against.protocol["data"], "score": score}
    return Separation((scored, against), value, ends, protocol)
