"""Evaluation: every metric over every image of a split, exactly, with what the figures depend on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from convae.core.arguments import arguments
from convae.core.errors import ConfigError, ShapeError
from convae.core.names import shape_text
from convae.core.progress import Progress
from convae.core.registry import canonical_name
from convae.core.version import VERSION
from convae.data import Split, in_order
from convae.evaluation.aggregate import QUERIES
from convae.evaluation.bootstrap import LEVEL, RESAMPLES, interval, resampled_together
from convae.evaluation.features import Features
from convae.evaluation.metrics import METRICS
from convae.evaluation.metrics.base import Encoded, ImageMetric, LatentMetric, Metric, Passes, SampleMetric
from convae.evaluation.samples import both
from convae.model.artifact import fingerprint
from convae.model.inputs import unchecked_values
from convae.model.mode import evaluation_mode
from convae.model.vae import VAE

GROUPS = {"default", "all"}
"""Words that stand for several metrics."""
Value = float | list[float | None] | None
"""One number, one for each latent value, or None where there is none, such as a mean that overflowed."""


@dataclass(frozen=True)
class Figure:
    """One measured figure.

    Attributes:
        value: over all images of the split.
        interval: lower and upper end of its 95% confidence interval; None where one image gives no spread.
        unit: what it is measured in.
        better: `higher`, `lower`, or None.
        at_most: what the value cannot exceed on so few images and is as good as at: it is a lower bound then, and no
            measurement. None where it is measured.
        not_finite: images whose part is NaN or infinite, so that there is no value.
        first_not_finite: the name of the first of them.
    """

    value: Value
    interval: tuple[Value, Value] | None
    unit: str
    better: str | None
    at_most: float | None = None
    not_finite: int = 0
    first_not_finite: str | None = None

    def texts(self) -> tuple[str, str]:
        """Value and interval as people read them; of several values the range and the number."""
        if self.not_finite:
            first = "" if self.first_not_finite is None else f", the first is {self.first_not_finite}"
            return f"not finite for {self.not_finite:,} images{first}", ""
        if self.at_most is not None and isinstance(self.value, float):
            return f"≥ {self.value:.5g} (bounded by log N = {self.at_most:.5g})", ""
        if isinstance(self.value, list):
            known = [part for part in self.value if part is not None]
            return (f"{min(known):.3g} … {max(known):.3g} ({len(self.value)})" if known else "none"), ""
        value, *ends = (
            f"{part:.5g}" if isinstance(part, float) else "none" for part in (self.value, *(self.interval or ()))
        )
        return value, " … ".join(ends)


@dataclass(frozen=True)
class Report:
    """The figures of a model on a split, with the protocol that makes them repeatable.

    Attributes:
        figures: by name.
        protocol: everything that the figures depend on.
        rows: what each image added to each figure, (image,) or (image, column), in float64.
        left_out: why a figure that was asked for cannot be measured on these images, by its name.
    """

    figures: dict[str, Figure]
    protocol: dict[str, Any]
    rows: dict[str, Tensor] = field(repr=False)
    left_out: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Figures by name, `left_out` where there are any, and `protocol`: what goes into the JSON file.

        A figure that is a lower bound has `bound: lower` and `at_most`; one without a value says for how many images
        it is `not_finite`, and names the first.
        """
        found: dict[str, Any] = {}
        for name, figure in self.figures.items():
            ends = None if figure.interval is None else list(figure.interval)
            found[name] = {"value": figure.value, "interval": ends, "unit": figure.unit}
            if figure.at_most is not None:
                found[name] |= {"bound": "lower", "at_most": figure.at_most}
            if figure.not_finite:
                found[name]["not_finite"] = {"images": figure.not_finite, "first": figure.first_not_finite}
        if self.left_out:
            found["left_out"] = self.left_out
        return {**found, "protocol": self.protocol}


def evaluate(
    model: VAE,
    split: Split,
    *,
    metrics: Sequence[str] = ("default",),
    options: Mapping[str, Mapping[str, Any]] | None = None,
    features: Features | None = None,
    seed: int = 0,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> Report:
    """Measures a model on every image of a split.

    What is drawn depends on the seed and on an image's position in the split, so the size of the batches plays no
    part beyond the rounding of floats.

    Args:
        model: is used in evaluation mode, and left in the mode that it is in.
        split: the images.
        metrics: names; `all` stands for all that apply to the model and the images, `default` for those of them
            that do not take long.
        options: arguments of metrics, such as `{"nll": {"samples": 500}}`, which asks for the metric too.
        features: the network by whose features samples are compared with the images; `EncoderFeatures` makes one of a
            trained model. Without it, no metric of samples applies.
        seed: of the drawn latents, the samples and the bootstrap.
        batch_size: images at a time.
        progress: told how many images are done.

    Raises:
        ConfigError: no metric has that name, or wrong arguments, or it does not apply here.
        ShapeError: the images have not the model's shape.
    """
    if split.shape != model.input_shape:
        raise ShapeError(f"the model takes {shape_text(model.input_shape)}, the images are {shape_text(split.shape)}")
    model.check_labels(split.labels, split.source, split.classes)
    model.check_levels(split.levels, split.source)
    chosen, configured = _chosen(metrics, options or {}, model, split, features is not None)
    with evaluation_mode(model):
        rows, encoded = _rows(chosen, model, split, seed, batch_size, progress)
        limits, left_out = _add_rows_of_latents(rows, chosen, encoded)
        del encoded
        figures = _figures({name: rows[name] for name in chosen if name in rows}, chosen, split, seed, limits)
        of_samples = {name: metric for name, metric in chosen.items() if isinstance(metric, SampleMetric)}
        if of_samples and features is not None:
            real, drawn = both(model, split, features, seed=seed, batch_size=batch_size, progress=progress)
            for name, metric in of_samples.items():
                found = metric.measure(real, drawn, seed)
                called = features.known_as.get(name, f"{name}-{features.name}")
                figures[called] = Figure(found.value, found.ends, metric.unit, metric.better)
    protocol = {
        "data": split.describe(),
        "model": {"name": model.name, "sha256": fingerprint(model)},
        "metrics": configured,
        "latents": "one drawn for each image, from a generator keyed by seed and position",
        "aggregate_posterior": f"of all images, at the drawn latents of {min(QUERIES, len(split))}",
        "features": features
        and {
            "name": features.name,
            "sha256": features.sha256,
            "images": features.preparation,
            "samples": len(split),
        },
        "seed": seed,
        "interval": {"method": "percentile bootstrap over images", "resamples": RESAMPLES, "level": LEVEL},
        "convae": VERSION,
        "torch": torch.__version__.partition("+")[0],
    }
    return Report(figures, protocol, rows, left_out)


def _chosen(
    names: Sequence[str], options: Mapping[str, Mapping[str, Any]], model: VAE, split: Split, features: bool
) -> tuple[dict[str, Metric], dict[str, dict[str, Any]]]:
    """The metrics to measure by name, and all their arguments."""
    given = {canonical_name(name): of_one for name, of_one in options.items()}
    asked = {canonical_name(name) for name in (*names, *given)}
    chosen: dict[str, Metric] = {}
    configured: dict[str, dict[str, Any]] = {}
    for name in sorted(asked - GROUPS | set(METRICS.names() if asked & GROUPS else ())):
        target = METRICS.get(name)
        checked = arguments(target, given.get(name), f"metric {name}")
        metric: Metric = target(**checked)
        if isinstance(metric, SampleMetric) and not features:
            if name in asked:
                raise ConfigError(f"metric '{name}' compares features of images: give an encoder whose they are")
        elif metric.applies(model, split):
            if name in asked or "all" in asked or metric.default:
                called = metric.called(name)
                chosen[called], configured[called] = metric, dict(metric.described() or checked)
        elif name in asked:
            needs = f": it needs {metric.needs}" if metric.needs else ""
            raise ConfigError(f"metric '{name}' means nothing for model '{model.name}' on these images{needs}")
    return chosen, configured


@torch.no_grad()
@unchecked_values()
def _rows(
    chosen: dict[str, Metric], model: VAE, split: Split, seed: int, batch_size: int, progress: Progress | None
) -> tuple[dict[str, Tensor], Encoded | None]:
    """What each image adds to the metrics of images, in float64 on the CPU, and the latents for those of latents.

    Memory is allocated once: small results that are kept between the batches leave holes, and the heap grows.
    """
    count, shape = len(split), model.latent_shape
    rows: dict[str, Tensor] = {}
    encoded: Encoded | None = None
    if any(isinstance(metric, LatentMetric) for metric in chosen.values()):
        labels = None if split.labels is None else torch.from_numpy(split.labels)
        mean, logvar, drawn = (torch.empty(count, *shape) for _ in range(3))
        encoded = Encoded(model, mean, logvar, drawn, labels)
    done = 0
    for batch in in_order(split, batch_size, next(model.parameters()).device):
        passes = Passes(model, batch.images, batch.indices, seed, batch.labels)
        for name, metric in chosen.items():
            if isinstance(metric, ImageMetric):
                found = metric.rows(passes)
                if name not in rows:
                    rows[name] = torch.empty(count, *found.shape[1:], dtype=torch.float64)
                rows[name][done : done + len(batch)] = found
        if encoded is not None:
            posterior, here = passes.drawn.posterior, slice(done, done + len(batch))
            encoded.mean[here], encoded.logvar[here] = posterior.mean, posterior.logvar
            encoded.drawn[here] = passes.drawn.latent
        done += len(batch)
        if progress:
            progress(done, len(split), "evaluating (images)")
    return rows, encoded


def _add_rows_of_latents(
    rows: dict[str, Tensor], chosen: dict[str, Metric], encoded: Encoded | None
) -> tuple[dict[str, float | None], dict[str, str]]:
    """Adds what each image adds to the metrics of latents; gives what bounds them, and why others are left out."""
    limits: dict[str, float | None] = {}
    left_out: dict[str, str] = {}
    for name, metric in chosen.items():
        if not isinstance(metric, LatentMetric) or encoded is None:
            continue
        reason = metric.unmeasurable(encoded)
        if reason is not None:
            left_out[name] = reason
        else:
            rows[name], limits[name] = metric.rows(encoded), metric.bounded_by(encoded)
    return limits, left_out


def _figures(
    rows: dict[str, Tensor], chosen: dict[str, Metric], split: Split, seed: int, limits: dict[str, float | None]
) -> dict[str, Figure]:
    """The figures, those of equally many rows resampled with the same sets of images."""
    resampled: dict[str, Tensor] = {}
    for count in {len(own) for own in rows.values()}:
        same = {name: own.reshape(count, -1) for name, own in rows.items() if len(own) == count}
        resampled |= resampled_together(same, seed)
    return {name: _figure(chosen[name], own, resampled[name], split, limits.get(name)) for name, own in rows.items()}


def _figure(metric: Metric, rows: Tensor, resampled: Tensor, split: Split, at_most: float | None) -> Figure:
    """The figure of a metric's rows, and its interval."""
    value = metric.figure(rows.reshape(len(rows), -1).mean(0))
    wrong = (~rows.reshape(len(rows), -1).isfinite()).any(1).nonzero()[:, 0]
    if len(wrong):
        # Rows of fewer images, such as those with a label, have no names.
        first = split.key(int(wrong[0])) if len(rows) == len(split) else None
        return Figure(_plain(value, metric), None, metric.unit, metric.better, None, len(wrong), first)
    ends = None
    if len(rows) > 1 and at_most is None:
        low, high = interval(metric.figure(resampled))
        ends = (_plain(low, metric), _plain(high, metric))
    return Figure(_plain(value, metric), ends, metric.unit, metric.better, at_most)


def _plain(figure: Tensor, metric: Metric) -> Value:
    """Numbers that JSON knows: NaN and infinity become None."""
    values = [value if math.isfinite(value) else None for value in figure.tolist()]
    return values if metric.per_value else values[0]
