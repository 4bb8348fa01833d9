"""Evaluation: every metric over every image of a split, with the protocol that the values depend on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from convae.core.progress import Progress
from convae.data import Split
from convae.evaluation.aggregate import QUERIES
from convae.evaluation.bootstrap import LEVEL, RESAMPLES, percentile_interval, resample_tables
from convae.evaluation.features import Features
from convae.evaluation.metrics.base import Metric, SampleMetric
from convae.evaluation.rows import MetricRows, choose_metrics, measure_rows, versions
from convae.evaluation.samples import image_and_sample_features
from convae.model.artifact import fingerprint
from convae.model.compatibility import check_levels
from convae.model.mode import evaluation_mode
from convae.model.vae import VAE

Value = float | list[float | None] | None
"""One number, one for each latent value, or None where there is none, such as a mean that overflowed."""
_SHOWN_PARTS = 4
"""Named values that a table shows one by one."""


@dataclass(frozen=True)
class Measurement:
    """The measured value of a metric.

    Attributes:
        value: over all images of the split.
        interval: lower and upper end of its 95% confidence interval; None where one image gives no spread.
        unit: what it is measured in.
        better: `higher`, `lower`, or None.
        at_most: what the value cannot exceed on so few images and is as good as at: it is a lower bound then, and no
            measurement. None where it is measured.
        not_finite: images whose part is NaN or infinite, so that there is no value.
        first_not_finite: the name of the first of them.
        parts: what each of several values is of, such as a codebook; empty for latent values.
    """

    value: Value
    interval: tuple[Value, Value] | None
    unit: str
    better: str | None
    at_most: float | None = None
    not_finite: int = 0
    first_not_finite: str | None = None
    parts: tuple[str, ...] = ()

    def texts(self) -> tuple[str, str]:
        """Value and interval as people read them; of several values the range and the number."""
        if self.not_finite:
            first = "" if self.first_not_finite is None else f", the first is {self.first_not_finite}"
            return f"not finite for {self.not_finite:,} images{first}", ""
        if self.at_most is not None and isinstance(self.value, float):
            return f"≥ {self.value:.5g} (bounded by log N = {self.at_most:.5g})", ""
        if isinstance(self.value, list):
            known = [part for part in self.value if part is not None]
            if self.parts and len(known) <= _SHOWN_PARTS:
                named = zip(self.parts, known, strict=True)
                return ", ".join(f"{part}: {value:.3g}" if part else f"{value:.3g}" for part, value in named), ""
            return (f"{min(known):.3g} … {max(known):.3g} ({len(self.value)})" if known else "none"), ""
        value, *ends = (
            f"{part:.5g}" if isinstance(part, float) else "none" for part in (self.value, *(self.interval or ()))
        )
        return value, " … ".join(ends)


@dataclass(frozen=True)
class Report:
    """The metrics of a model on a split, with the protocol that makes them repeatable.

    Attributes:
        metrics: by name.
        protocol: everything that the values depend on.
        rows: what each image added to each metric, (image,) or (image, column), in float64.
        left_out: why a metric that was asked for cannot be measured on these images, by its name.
    """

    metrics: dict[str, Measurement]
    protocol: dict[str, Any]
    rows: dict[str, Tensor] = field(repr=False)
    left_out: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Metrics by name, `left_out` where there are any, and `protocol`: what goes into the JSON file.

        A metric of several parts names them in `parts`. One that is a lower bound has `bound: lower` and `at_most`; one
        without a value says for how many images it is `not_finite`, and names the first.
        """
        found: dict[str, Any] = {}
        for name, measurement in self.metrics.items():
            ends = None if measurement.interval is None else list(measurement.interval)
            found[name] = {"value": measurement.value, "interval": ends, "unit": measurement.unit}
            if measurement.at_most is not None:
                found[name] |= {"bound": "lower", "at_most": measurement.at_most}
            if any(measurement.parts):
                found[name]["parts"] = list(measurement.parts)
            if measurement.not_finite:
                found[name]["not_finite"] = {"images": measurement.not_finite, "first": measurement.first_not_finite}
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
        progress: called with the number of images that are done.

    Raises:
        ConfigError: no metric has that name, or wrong arguments, or it does not apply here.
        ShapeError: the images do not have the model's input shape.
    """
    check_levels(model, split.levels, split.source)
    chosen, configured = choose_metrics(metrics, options or {}, model, split, features is not None)
    found = measure_rows(chosen, model, split, seed=seed, batch_size=batch_size, progress=progress)
    measured = _measurements(found, chosen, split, seed)
    for name, parts in found.parts.items():
        of_parts = chosen[name]
        values: list[float | None] = list(parts.values())
        value = values if of_parts.per_value else values[0]
        measured[name] = Measurement(value, None, of_parts.unit, of_parts.better, parts=tuple(parts))
    measured = dict(sorted(measured.items()))
    of_samples = {name: metric for name, metric in chosen.items() if isinstance(metric, SampleMetric)}
    if of_samples and features is not None:
        with evaluation_mode(model):
            real, drawn = image_and_sample_features(
                model, split, features, seed=seed, batch_size=batch_size, progress=progress
            )
        for name, metric in of_samples.items():
            estimate = metric.measure(real, drawn, seed)
            shown = features.metric_aliases.get(name, f"{name}-{features.name}")
            measured[shown] = Measurement(estimate.value, estimate.interval, metric.unit, metric.better)
    protocol = {
        "data": split.describe(),
        "model": {"name": model.name, "sha256": fingerprint(model)},
        "metrics": configured,
        **_conditions(split, features, seed),
    }
    return Report(measured, protocol, found.rows, found.left_out)


def _conditions(split: Split, features: Features | None, seed: int) -> dict[str, Any]:
    """What the values depend on beside data, model and metrics."""
    return {
        "latents": "one drawn for each image, from a generator keyed by seed and position",
        "aggregate_posterior": f"of all images, at the drawn latents of {min(QUERIES, len(split))}",
        "features": features
        and {
            "name": features.name,
            "sha256": features.sha256,
            "images": features.preprocessing,
            "samples": len(split),
        },
        "seed": seed,
        "interval": {"method": "percentile bootstrap over images", "resamples": RESAMPLES, "level": LEVEL},
        **versions(),
    }


def _measurements(found: MetricRows, chosen: Mapping[str, Metric], split: Split, seed: int) -> dict[str, Measurement]:
    """The values of metrics, those of equally many rows resampled with the same sets of images."""
    resampled: dict[str, Tensor] = {}
    for count in {len(own) for own in found.rows.values()}:
        same = {name: own.reshape(count, -1) for name, own in found.rows.items() if len(own) == count}
        resampled |= resample_tables(same, seed)
    return {
        name: _measurement(chosen[name], own, resampled[name], split, found.limits.get(name))
        for name, own in found.rows.items()
    }


def _measurement(metric: Metric, rows: Tensor, resampled: Tensor, split: Split, at_most: float | None) -> Measurement:
    """The value of a metric's rows, and its interval."""
    value = metric.value(rows.reshape(len(rows), -1).mean(0))
    wrong = (~rows.reshape(len(rows), -1).isfinite()).any(1).nonzero()[:, 0]
    if len(wrong):
        # Rows of fewer images, such as those with a label, have no names.
        first = split.key(int(wrong[0])) if len(rows) == len(split) else None
        return Measurement(_plain(value, metric), None, metric.unit, metric.better, None, len(wrong), first)
    ends = None
    if len(rows) > 1 and at_most is None:
        low, high = percentile_interval(metric.value(resampled))
        ends = (_plain(low, metric), _plain(high, metric))
    return Measurement(_plain(value, metric), ends, metric.unit, metric.better, at_most)


def _plain(value: Tensor, metric: Metric) -> Value:
    """Numbers that JSON knows: NaN and infinity become None."""
    values = [value if math.isfinite(value) else None for value in value.tolist()]
    return values if metric.per_value else values[0]
