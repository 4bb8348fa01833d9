"""Anomaly scores: one value per image, higher for less likely images."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float64
from torch import Tensor

from convae.core.errors import ConfigError, DataError
from convae.core.progress import Progress
from convae.data import Split
from convae.evaluation.rows import choose_metrics, measure_rows, versions
from convae.latents import Encoding
from convae.model.fingerprint import fingerprint
from convae.model.vae import VAE


@dataclass(frozen=True)
class ImageScores:
    """The anomaly scores of the images of a split.

    Attributes:
        values: (image,), higher is more anomalous.
        name: name of the score, such as `negative ELBO`.
        unit: unit of the score, such as `nats`.
        protocol: everything that the scores depend on.
        encoding: posteriors of the images if requested, else None.
    """

    values: Float64[Tensor, " image"]
    name: str
    unit: str
    protocol: dict[str, Any]
    encoding: Encoding | None = field(default=None, repr=False)

    @property
    def label(self) -> str:
        """Axis label, such as `negative ELBO (nats per image)`."""
        return f"{self.name} ({self.unit} per image)"

    @property
    def column(self) -> str:
        """Column name, an identifier such as `negative_elbo_nats`."""
        return re.sub(r"[^a-z0-9]+", "_", f"{self.name} {self.unit}".lower()).strip("_")


def score_images(
    model: VAE,
    split: Split,
    *,
    score: str = "elbo",
    options: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
    batch_size: int = 256,
    keep_encoding: bool = False,
    progress: Progress | None = None,
) -> ImageScores:
    """Computes the anomaly score of each image: a metric, negated if higher values are better.

    The default is the negative ELBO, −log p(x | z) + KL for z from the posterior, nats, an upper bound on −log p(x).
    The mean over images equals that of `evaluate`, up to the sign.

    Args:
        model: the model; its training mode does not change.
        split: the images.
        score: a metric with one value per image, such as `elbo`, `nll`, `reconstruction` or `kl`.
        options: arguments of the metric by its name, such as `{"elbo": {"samples": 8}}`.
        seed: seed of the posterior samples, which also depend on the position of the image in the split.
        batch_size: images per batch.
        keep_encoding: whether to return the posteriors, as by `encode`.
        progress: called with the number of processed images.

    Raises:
        ConfigError: unknown metric, or one without a value per image.
        DataError: a score is not finite.
        ShapeError: the images do not have the input shape of the model.
    """
    chosen, configured = choose_metrics([score], options or {}, model, split, False)
    if len(chosen) != 1:
        raise ConfigError(f"score: expected one metric, got {', '.join(chosen)}")
    ((name, metric),) = chosen.items()
    found = measure_rows(
        chosen, model, split, seed=seed, batch_size=batch_size, keep_encoding=keep_encoding, progress=progress
    )
    rows = found.rows.get(name)
    if rows is None or rows.shape != (len(split),):
        raise ConfigError(f"score: expected a metric with one value per image, got '{score}'")
    wrong = (~rows.isfinite()).nonzero()[:, 0]
    if len(wrong):
        raise DataError(
            f"{split.source}: {score} is not finite for {len(wrong):,} of {len(split):,} images, the first is "
            f"'{split.key(int(wrong[0]))}'. Check these images and the weights of model '{model.name}'"
        )
    protocol = {
        "data": split.describe(),
        "model": {"name": model.name, "sha256": fingerprint(model)},
        "metrics": configured,
        "seed": seed,
        **versions(),
    }
    shown = "ELBO" if name == "elbo" else name
    if metric.better == "higher":
        rows, shown = -rows, f"negative {shown}"
    return ImageScores(rows, shown, metric.unit, protocol, found.encoding)
