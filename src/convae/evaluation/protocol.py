"""Evaluation: every metric over every image of a split, exactly, with what the figures depend on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from convae.core.errors import ShapeError
from convae.core.names import shape_text
from convae.core.progress import Progress
from convae.core.random import torch_generator
from convae.core.version import VERSION
from convae.data import Split, in_order
from convae.evaluation.metrics import METRICS
from convae.evaluation.metrics.base import Metric, Passes
from convae.model.vae import VAE


@dataclass(frozen=True)
class Figure:
    """One measured figure.

    Attributes:
        value: mean over all images of the split.
        standard_error: of that mean.
        unit: what it is measured in.
        better: `higher`, `lower`, or None.
    """

    value: float
    standard_error: float
    unit: str
    better: str | None


@dataclass(frozen=True)
class Report:
    """The figures of a model on a split, with the protocol that makes them repeatable."""

    figures: dict[str, Figure]
    protocol: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Figures by name, and `protocol`: what goes into the JSON file."""
        figures = {
            name: {"value": figure.value, "standard_error": figure.standard_error, "unit": figure.unit}
            for name, figure in self.figures.items()
        }
        return {**figures, "protocol": self.protocol}


@torch.no_grad()
def evaluate(
    model: VAE,
    split: Split,
    *,
    metrics: Sequence[str] | None = None,
    seed: int = 0,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> Report:
    """Measures a model on every image of a split.

    Args:
        model: in whatever mode; it is evaluated in evaluation mode.
        split: the images.
        metrics: names; without them, all that apply to the model.
        seed: of the drawn latents.
        batch_size: images at a time. Latents are drawn batch by batch, so it is part of the protocol.
        progress: told how many images are done.

    Raises:
        ConfigError: no metric has that name.
        ShapeError: the images have not the model's shape.
    """
    if split.shape != model.input_shape:
        raise ShapeError(f"the model takes {shape_text(model.input_shape)}, the images are {shape_text(split.shape)}")
    chosen: dict[str, Metric] = {name: METRICS.get(name)() for name in (metrics or METRICS.names())}
    if metrics is None:
        chosen = {name: metric for name, metric in chosen.items() if metric.applies(model)}
    model.eval()
    device = next(model.parameters()).device
    values: dict[str, list[torch.Tensor]] = {name: [] for name in chosen}
    done = 0
    for number, batch in enumerate(in_order(split, batch_size, device)):
        noise = torch_generator(seed, "evaluation", number)
        passes = Passes(batch.images, model(batch.images, noise), model(batch.images))
        for name, metric in chosen.items():
            values[name].append(metric.per_image(passes).cpu().double())
        done += len(batch)
        if progress:
            progress(done, len(split), "evaluating (images)")
    figures = {name: _figure(chosen[name], torch.cat(parts)) for name, parts in values.items()}
    facts = {"seed": seed, "batch_size": batch_size, "latent_samples": 1, "convae": VERSION}
    return Report(figures, {"data": split.describe(), **facts})


def _figure(metric: Metric, values: torch.Tensor) -> Figure:
    """The mean over images and its standard error."""
    error = float(values.std() / len(values) ** 0.5) if len(values) > 1 else float("nan")
    return Figure(float(values.mean()), error, metric.unit, metric.better)
