"""What each image adds to each metric: one pass over the images, from which metrics, scores and encodings come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from convae.core.arguments import parse_arguments
from convae.core.errors import ConfigError
from convae.core.progress import Progress
from convae.core.registry import canonical_name
from convae.core.version import VERSION
from convae.data import Split
from convae.evaluation.factors import factors_of
from convae.evaluation.metrics import METRICS
from convae.evaluation.metrics.base import (
    CountMetric,
    Encoded,
    FactorMetric,
    ImageMetric,
    LatentMetric,
    Metric,
    SampleMetric,
)
from convae.latents import Encoding
from convae.latents.batches import iterate_batches
from convae.latents.encoding import EncodingTable
from convae.model.inputs import unchecked_values
from convae.model.mode import evaluation_mode
from convae.model.vae import VAE

GROUPS = {"default", "all"}
"""Words that stand for several metrics."""


def versions() -> dict[str, str]:
    """The versions that a measurement depends on, for its protocol."""
    return {"convae": VERSION, "torch": torch.__version__.partition("+")[0]}


@dataclass(frozen=True)
class MetricRows:
    """What each image adds to some metrics.

    Attributes:
        rows: by metric, (image,) or (image, column), in float64 on the CPU.
        limits: by metric, what its value cannot exceed on so few images; None where it is measured.
        left_out: by metric, why it cannot be measured on these images.
        parts: by metric of counts or factors, the value of each part.
        encoding: the posteriors, where they were asked for.
    """

    rows: dict[str, Tensor] = field(default_factory=dict)
    limits: dict[str, float | None] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    parts: dict[str, Mapping[str, float]] = field(default_factory=dict)
    encoding: Encoding | None = None


def choose_metrics(
    names: Sequence[str], options: Mapping[str, Mapping[str, Any]], model: VAE, split: Split, has_features: bool
) -> tuple[dict[str, Metric], dict[str, dict[str, Any]]]:
    """The metrics to measure by name, and what the protocol records of each.

    Raises:
        ConfigError: no metric has that name, or wrong arguments, or it does not apply here.
    """
    given = {canonical_name(name): of_one for name, of_one in options.items()}
    asked = {canonical_name(name) for name in (*names, *given)}
    chosen: dict[str, Metric] = {}
    configured: dict[str, dict[str, Any]] = {}
    for name in sorted(asked - GROUPS | set(METRICS.names() if asked & GROUPS else ())):
        target = METRICS.get(name)
        checked = parse_arguments(target, given.get(name), f"metric {name}")
        metric: Metric = target(**checked)
        if isinstance(metric, SampleMetric) and not has_features:
            if name in asked:
                raise ConfigError(f"metric '{name}' compares features of images: give a feature network (--encoder)")
        elif metric.needs_whole_images and split.missing is not None:
            if name in asked:
                raise ConfigError(f"metric '{name}' compares whole images; those of {split.source} have missing values")
        elif metric.applies(model, split):
            if name in asked or "all" in asked or metric.default:
                shown = metric.display_name(name)
                chosen[shown], configured[shown] = metric, dict(metric.protocol() or checked)
        elif name in asked:
            reason = metric.refusal(model, split)
            raise ConfigError(
                f"metric '{name}' does not apply to model '{model.name}' on these images{reason and f': {reason}'}"
            )
    return chosen, configured


@torch.no_grad()
@unchecked_values()
def measure_rows(
    chosen: Mapping[str, Metric],
    model: VAE,
    split: Split,
    *,
    seed: int,
    batch_size: int = 256,
    keep_encoding: bool = False,
    progress: Progress | None = None,
) -> MetricRows:
    """Measures the metrics of images and of latents in one pass.

    Args:
        chosen: the metrics by name; those of samples are ignored.
        model: is left in the mode that it is in.
        split: the images.
        seed: of the drawn latents, which depend on an image's position in the split too.
        batch_size: images at a time.
        keep_encoding: whether the posteriors are returned too.
        progress: called with the number of images that are done.

    Raises:
        ShapeError: the images do not have the model's input shape.
        DataError: an encoding is asked for, and a latent is not finite.
    """
    count = len(split)
    rows: dict[str, Tensor] = {}
    of_images = {name: metric for name, metric in chosen.items() if isinstance(metric, ImageMetric)}
    of_counts = {name: metric for name, metric in chosen.items() if isinstance(metric, CountMetric)}
    counts: dict[str, dict[str, Tensor]] = {name: {} for name in of_counts}
    of_latents = {name: metric for name, metric in chosen.items() if isinstance(metric, LatentMetric)}
    of_factors = {name: metric for name, metric in chosen.items() if isinstance(metric, FactorMetric)}
    table = EncodingTable(model, split) if of_latents or of_factors or keep_encoding else None
    drawn = torch.empty(count, *model.latent_shape) if of_latents else None
    what = "evaluating (images)"
    for here, batch in iterate_batches(model, split, batch_size=batch_size, seed=seed, progress=progress, what=what):
        for name, metric in of_images.items():
            found = metric.rows(batch)
            if name not in rows:
                rows[name] = torch.empty(count, *found.shape[1:], dtype=torch.float64)
            rows[name][here] = found
        for name, count_metric in of_counts.items():
            found_counts = count_metric.counts(batch)
            counts[name] = {part: own + counts[name].get(part, 0) for part, own in found_counts.items()}
        if drawn is not None:
            drawn[here] = batch.drawn.latent
        if table is not None:
            table.add(here, batch)
        if table is not None and keep_encoding:
            table.require_finite(here, model)
    limits: dict[str, float | None] = {}
    left_out: dict[str, str] = {}
    if table is not None and drawn is not None:
        labels = None if split.labels is None else torch.from_numpy(split.labels)
        encoded = Encoded(model, table.mean, table.logvar, drawn, labels)
        with evaluation_mode(model):
            found_rows, limits, left_out = _rows_of_latents(of_latents, encoded)
        rows |= found_rows
    encoding = table.encoding() if table is not None and keep_encoding else None
    parts = {name: metric.measure(counts[name]) for name, metric in of_counts.items()}
    if table is not None:
        parts |= {name: _measure_factors(metric, table.mean, split, seed) for name, metric in of_factors.items()}
    return MetricRows({name: rows[name] for name in chosen if name in rows}, limits, left_out, parts, encoding)


def _measure_factors(metric: FactorMetric, mean: Tensor, split: Split, seed: int) -> Mapping[str, float]:
    """The parts of a metric of the posterior means of a split."""
    factors, rows = factors_of(split.columns, metric.factors)
    return metric.measure(mean.flatten(1).double().numpy()[rows], factors, seed)


def _rows_of_latents(
    metrics: Mapping[str, LatentMetric], encoded: Encoded
) -> tuple[dict[str, Tensor], dict[str, float | None], dict[str, str]]:
    """Rows and bounds of the metrics of latents, and why the others cannot be measured."""
    rows: dict[str, Tensor] = {}
    limits: dict[str, float | None] = {}
    left_out: dict[str, str] = {}
    for name, metric in metrics.items():
        reason = metric.unmeasurable(encoded)
        if reason is not None:
            left_out[name] = reason
        else:
            rows[name], limits[name] = metric.rows(encoded), metric.bounded_by(encoded)
    return rows, limits, left_out
