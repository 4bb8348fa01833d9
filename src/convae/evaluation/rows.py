"""Rows of metrics: one pass over the images of a split, for metrics, anomaly scores and encodings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from convae.core.arguments import parse_arguments
from convae.core.errors import ConfigError
from convae.core.names import count_text
from convae.core.progress import Progress
from convae.core.registry import canonical_name
from convae.core.version import VERSION
from convae.data import Split
from convae.evaluation.factors import factors_of
from convae.evaluation.metrics import METRICS
from convae.evaluation.metrics.base import (
    CountMetric,
    EncodedSplit,
    FactorMetric,
    FeatureMetric,
    ImageMetric,
    LatentMetric,
    Metric,
)
from convae.latents import Encoding
from convae.latents.batches import EvalBatch, iterate_batches, require_split
from convae.latents.encoding import EncodingTable
from convae.model.compatibility import check_fill, check_levels
from convae.model.inference import EncodedBatch
from convae.model.inputs import unchecked_values
from convae.model.mode import evaluation_mode
from convae.model.vae import VAE

GROUPS = {"default", "all"}
"""Names of groups of metrics."""


def versions() -> dict[str, str]:
    """Versions of convae and torch, for protocols."""
    return {"convae": VERSION, "torch": torch.__version__.partition("+")[0]}


@dataclass(frozen=True)
class MetricRows:
    """Results of one pass over a split.

    Attributes:
        rows: rows by metric, (image,) or (image, column), in float64 on the CPU.
        limits: by metric, the upper limit of its value if the value reaches it, else None.
        left_out: by omitted metric, the reason.
        parts: by metric of counts or factors, the value of each part.
        encoding: the posteriors if requested, else None.
    """

    rows: dict[str, Tensor] = field(default_factory=dict)
    limits: dict[str, float | None] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    parts: dict[str, Mapping[str, float]] = field(default_factory=dict)
    encoding: Encoding | None = None


def choose_metrics(
    names: Sequence[str], options: Mapping[str, Mapping[str, Any]], model: VAE, split: Split, has_features: bool
) -> tuple[dict[str, Metric], dict[str, dict[str, Any]]]:
    """Chooses the metrics to measure; returns them and their configuration for the protocol, by name.

    Args:
        names: names of metrics and groups, as for `evaluate`.
        options: arguments of metrics by name.
        model: the model.
        split: the images.
        has_features: whether there is a feature network.

    Raises:
        ConfigError: unknown metric, invalid arguments, a named metric does not apply, the images are not a split, or
            their values are not those of the model's likelihood or masks.
    """
    require_split(split)
    check_levels(model, split.levels, split.source)
    check_fill(model, None if split.missing is None else split.missing.fill, split.source)
    given = {canonical_name(name): of_one for name, of_one in options.items()}
    asked = {canonical_name(name) for name in (*names, *given)}
    chosen: dict[str, Metric] = {}
    configured: dict[str, dict[str, Any]] = {}
    for name in sorted(asked - GROUPS | set(METRICS.names() if asked & GROUPS else ())):
        target = METRICS.get(name)
        checked = parse_arguments(target, given.get(name), f"metric {name}")
        metric: Metric = target(**checked)
        if isinstance(metric, FeatureMetric) and not has_features:
            if name in asked:
                raise ConfigError(f"metric '{name}' needs a feature network (--features)")
        elif metric.needs_whole_images and split.missing is not None:
            if name in asked:
                raise ConfigError(
                    f"metric '{name}' needs images without missing values, unlike those of {split.source}"
                )
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
    batch_size: int,
    refinement_steps: int = 0,
    keep_encoding: bool = False,
    progress: Progress | None,
) -> MetricRows:
    """Measures metrics of images, counts, latents and factors in one pass.

    Args:
        chosen: metrics by name; metrics of features of whole sets are ignored.
        model: the model; its training mode does not change.
        split: the images.
        seed: seed of the posterior samples, which also depend on the position of the image in the split.
        batch_size: images per batch.
        refinement_steps: steps that refine the posterior of each image.
        keep_encoding: whether to return the posteriors.
        progress: called with the number of processed images.

    Raises:
        ShapeError: the images do not have the input shape of the model.
        DataError: posteriors are requested, and a latent is not finite.
    """
    rows: dict[str, Tensor] = {}
    of_images = {name: metric for name, metric in chosen.items() if isinstance(metric, ImageMetric)}
    of_counts = {name: metric for name, metric in chosen.items() if isinstance(metric, CountMetric)}
    of_latents = {name: metric for name, metric in chosen.items() if isinstance(metric, LatentMetric)}
    of_factors = {name: metric for name, metric in chosen.items() if isinstance(metric, FactorMetric)}
    counts: dict[str, dict[str, Tensor]] = {name: {} for name in of_counts}
    table = EncodingTable(model, split) if of_latents or of_factors or keep_encoding else None
    sampled = torch.empty(len(split), *model.latent_shape) if of_latents else None
    batches = iterate_batches(
        model,
        split,
        batch_size=batch_size,
        seed=seed,
        refinement_steps=refinement_steps,
        progress=progress,
        what="evaluating (images)",
    )
    for here, batch in batches:
        _add_image_rows(rows, of_images, batch, here, len(split))
        for name, count_metric in of_counts.items():
            found_counts = count_metric.counts(batch)
            counts[name] = {part: values + counts[name].get(part, 0) for part, values in found_counts.items()}
        if sampled is not None:
            sampled[here] = batch.drawn.latent
        if table is not None:
            table.add(here, EncodedBatch.of(batch.posterior))
            if keep_encoding:
                table.require_finite(here, model)
    result = MetricRows(rows, parts={name: metric.measure(counts[name]) for name, metric in of_counts.items()})
    if table is not None and sampled is not None:
        labels = None if split.labels is None else torch.from_numpy(split.labels)
        with evaluation_mode(model):
            _add_rows(result, of_latents, EncodedSplit(model, table.mean, table.logvar, sampled, labels))
    if table is not None:
        result.parts.update(_measure_factors(of_factors, table.mean, split, seed))
    encoding = table.encoding() if table is not None and keep_encoding else None
    return replace(result, rows={name: rows[name] for name in chosen if name in rows}, encoding=encoding)


def _add_image_rows(
    rows: dict[str, Tensor], metrics: Mapping[str, ImageMetric], batch: EvalBatch, here: slice, count: int
) -> None:
    """Adds the rows of the images of a batch, `here` of `count`.

    Raises:
        ConfigError: a metric has not one row for each image; others would be broadcast.
    """
    for name, metric in metrics.items():
        found = metric.rows(batch)
        if found.ndim == 0 or len(found) != len(batch.images):
            raise ConfigError(
                f"metric '{name}': its rows have the shape {tuple(found.shape)}. Return one row for each of "
                f"{count_text(len(batch.images), 'image')}"
            )
        if name not in rows:
            rows[name] = torch.empty(count, *found.shape[1:], dtype=torch.float64)
        rows[name][here] = found


def _measure_factors(
    metrics: Mapping[str, FactorMetric], mean: Tensor, split: Split, seed: int
) -> dict[str, Mapping[str, float]]:
    """The parts of metrics of disentanglement, for the posterior means of all images of a split."""
    parts: dict[str, Mapping[str, float]] = {}
    for name, metric in metrics.items():
        factors, rows = factors_of(split.columns, metric.factors)
        parts[name] = metric.measure(mean.flatten(1).double().numpy()[rows], factors, seed)
    return parts


def _add_rows(result: MetricRows, metrics: Mapping[str, LatentMetric], encoded: EncodedSplit) -> None:
    """Adds rows and limits of metrics of latents, or the reasons why they cannot be measured."""
    for name, metric in metrics.items():
        reason = metric.unmeasurable(encoded)
        if reason is not None:
            result.left_out[name] = reason
        else:
            result.rows[name], result.limits[name] = metric.rows(encoded).double().cpu(), metric.bounded_by(encoded)
