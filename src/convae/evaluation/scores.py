"""Anomaly scores: one value per image, higher for images that the model explains badly."""

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
from convae.model.artifact import fingerprint
from convae.model.compatibility import check_levels
from convae.model.vae import VAE


@dataclass(frozen=True)
class ImageScores:
    """The anomaly scores of the images of a split.

    Attributes:
        values: (image,); higher is more anomalous.
        what: name of the score, such as `negative ELBO`.
        unit: such as `nats`.
        protocol: what they depend on.
        encoding: posteriors of the images, where they were to be kept.
    """

    values: Float64[Tensor, " image"]
    what: str
    unit: str
    protocol: dict[str, Any]
    encoding: Encoding | None = field(default=None, repr=False)

    @property
    def label(self) -> str:
        """Axis label: `negative ELBO (nats per image)`."""
        return f"{self.what} ({self.unit} per image)"

    @property
    def column(self) -> str:
        """Column name that is an identifier in R and Python: `negative_elbo_nats`."""
        return re.sub(r"[^a-z0-9]+", "_", f"{self.what} {self.unit}".lower()).strip("_")


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
    """The anomaly score of each image: a metric, with its sign chosen so that higher is more anomalous.

    With `elbo` the negative ELBO, −log p(x | z) + KL with a latent z drawn from the posterior, nats: an upper bound on
    −log p(x). The mean over the images is that of `evaluate`, with its sign changed.

    Args:
        model: is left in the mode that it is in.
        split: the images.
        score: a metric with one value per image, such as `elbo`, `nll`, `reconstruction` or `kl`.
        options: arguments of the metric by its name, such as `{"elbo": {"samples": 8}}`.
        seed: of the drawn latents, which depend on an image's position in the split too.
        batch_size: images at a time.
        keep_encoding: whether the posteriors are kept, as `encode` gives them.
        progress: called with the number of images that are done.

    Raises:
        ConfigError: no such metric, or one without a value per image.
        DataError: a score is not finite.
        ShapeError: the images do not have the model's input shape.
    """
    check_levels(model, split.levels, split.source)
    chosen, configured = choose_metrics([score], options or {}, model, split, False)
    if len(chosen) != 1:
        raise ConfigError(f"a score is one metric, not {', '.join(chosen)}")
    ((name, metric),) = chosen.items()
    found = measure_rows(
        chosen, model, split, seed=seed, batch_size=batch_size, keep_encoding=keep_encoding, progress=progress
    )
    rows = found.rows.get(name)
    if rows is None or rows.shape != (len(split),):
        raise ConfigError(f"'{score}' is no anomaly score: it does not have one value per image")
    wrong = (~rows.isfinite()).nonzero()[:, 0]
    if len(wrong):
        raise DataError(
            f"{split.source}: the {score} of {len(wrong):,} of {len(split):,} images is not finite, the first is "
            f"'{split.key(int(wrong[0]))}': check the weights of model '{model.name}' and these images"
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
