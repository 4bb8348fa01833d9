"""A score for each image: what anomalies are ranked and other data are told apart by."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float64
from torch import Tensor

from convae.core.errors import ConfigError, DataError
from convae.core.progress import Progress
from convae.data import Split
from convae.evaluation.protocol import evaluate
from convae.model.vae import VAE


@dataclass(frozen=True)
class ImageScores:
    """How badly a model explains each image of a split.

    Attributes:
        values: (image,); higher is stranger.
        what: they are, such as `negative ELBO`.
        unit: such as `nats`.
        protocol: what they depend on.
    """

    values: Float64[Tensor, " image"]
    what: str
    unit: str
    protocol: dict[str, Any]

    @property
    def label(self) -> str:
        """For an axis: `negative ELBO (nats per image)`."""
        return f"{self.what} ({self.unit} per image)"

    @property
    def column(self) -> str:
        """For a table, as R and Python take it for a name: `negative_elbo_nats`."""
        return re.sub(r"[^a-z0-9]+", "_", f"{self.what} {self.unit}".lower()).strip("_")


def score_images(
    model: VAE,
    split: Split,
    *,
    score: str = "elbo",
    options: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> ImageScores:
    """The figure of `evaluate` for each image, turned so that a high one is strange.

    With `elbo` the negative ELBO, −log p(x | z) + KL with a latent z drawn from the posterior, nats: an upper bound on
    −log p(x). The mean over the images is that of `evaluate`, with its sign turned.

    Args:
        model: is left in the mode that it is in.
        split: the images.
        score: a metric with one figure for each image, such as `elbo`, `nll`, `reconstruction` or `kl`.
        options: arguments of the metric by its name, such as `{"elbo": {"samples": 8}}`.
        seed: of the drawn latents, which depend on an image's position in the split too.
        batch_size: images at a time.
        progress: told how many images are done.

    Raises:
        ConfigError: no such metric, or one without a figure for each image.
        DataError: a score is not finite.
        ShapeError: the images have not the model's shape.
    """
    report = evaluate(
        model, split, metrics=[score], options=options, seed=seed, batch_size=batch_size, progress=progress
    )
    rows = report.rows.get(score)
    if rows is None or rows.shape != (len(split),):
        raise ConfigError(f"'{score}' is no score: it has not one figure for each image")
    figure = report.figures[score]
    if figure.not_finite:
        count = f"{figure.not_finite:,} of {len(split):,} images"
        raise DataError(
            f"{split.source}: the {score} of {count} is not finite, the first is '{figure.first_not_finite}': "
            f"check the weights of model '{model.name}' and these images"
        )
    name = "ELBO" if score == "elbo" else score
    if figure.better == "higher":
        return ImageScores(-rows, f"negative {name}", figure.unit, report.protocol)
    return ImageScores(rows, name, figure.unit, report.protocol)
