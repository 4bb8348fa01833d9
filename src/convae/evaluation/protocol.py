"""Evaluation of a model on all images of a split, with the protocol."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from convae.core.errors import ConfigError
from convae.core.names import count_text
from convae.core.progress import Progress
from convae.data import Split
from convae.evaluation.aggregate import QUERIES
from convae.evaluation.bootstrap import LEVEL, RESAMPLES, percentile_interval, resample_tables
from convae.evaluation.feature_sets import SetName, compute_feature_sets
from convae.evaluation.metrics.base import FeatureMetric, Metric, SampleMetric
from convae.evaluation.rows import MetricRows, choose_metrics, measure_rows, versions
from convae.features.networks.base import FeatureNetwork
from convae.latents.refinement import describe_refinement, refinement_text, torch_engine
from convae.model.fingerprint import fingerprint
from convae.model.inference import InferenceEngine
from convae.model.mode import evaluation_mode
from convae.model.vae import VAE

Value = float | list[float | None] | None
"""A number, a list of numbers, or None for values that are not finite."""
_SHOWN_PARTS = 4
"""Maximum number of named values that a table lists; otherwise it has their range."""


@dataclass(frozen=True)
class Measurement:
    """The measured value of a metric.

    Attributes:
        value: value over all images of the split.
        interval: lower and upper end of the 95% confidence interval, if any.
        unit: unit of the value.
        better: direction of improvement, `higher`, `lower` or None.
        at_most: the upper limit of the value for this number of images if the value reaches it, and is only a lower
            bound; else None.
        not_finite: number of images with a NaN or infinite row; the metric then has no value.
        first_not_finite: name of the first such image.
        parts: names of several values, such as of codebooks; empty for latent values.
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
        """Value and interval as text for tables; many values are summarized by their range and number."""
        if self.not_finite:
            first = "" if self.first_not_finite is None else f", the first is {self.first_not_finite}"
            return f"not finite for {count_text(self.not_finite, 'image')}{first}", ""
        if self.at_most is not None and isinstance(self.value, float):
            return f"≥ {self.value:.5g} (bounded by log N = {self.at_most:.5g})", ""
        if isinstance(self.value, list):
            known = [part for part in self.value if part is not None]
            if self.parts and len(known) <= _SHOWN_PARTS:
                named = [pair for pair in zip(self.parts, self.value, strict=True) if pair[1] is not None]
                return ", ".join(f"{part}: {value:.3g}" if part else f"{value:.3g}" for part, value in named), ""
            return (f"{min(known):.3g} … {max(known):.3g} ({len(self.value)})" if known else "none"), ""
        value, *ends = (
            f"{part:.5g}" if isinstance(part, float) else "none" for part in (self.value, *(self.interval or ()))
        )
        return value, " … ".join(ends)


@dataclass(frozen=True)
class Report:
    """The metrics of a model on a split, with the protocol.

    Attributes:
        metrics: measurements by name.
        protocol: everything that the values depend on.
        rows: rows by metric, (image,) or (image, column), in float64.
        left_out: by metric that cannot be measured on these images, the reason.
    """

    metrics: dict[str, Measurement]
    protocol: dict[str, Any]
    rows: dict[str, Tensor] = field(repr=False)
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Model, images and refinement of the posteriors, in a line."""
        data = self.protocol["data"]
        images = count_text(data["count"], f"{data['source']} image")
        steps = self.protocol.get("refinement", {}).get("steps", 0)
        return f"{self.protocol['model']['name']} on {images} ({data['split']}){refinement_text(steps)}"

    def as_dict(self) -> dict[str, Any]:
        """Metrics by name, `protocol`, and `left_out` if any are, as in the JSON file.

        `parts` has the names of several values. A lower bound has `bound: lower` and `at_most`. A metric without a
        value has `not_finite`, with the number of images and the first of them.
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
    features: FeatureNetwork | None = None,
    seed: int = 0,
    batch_size: int = 256,
    refinement_steps: int = 0,
    progress: Progress | None = None,
) -> Report:
    """Evaluates a model on all images of a split.

    Random numbers depend on the seed and on the position of the image in the split, so that results do not depend on
    the batch size, up to rounding.

    Args:
        model: the model; its training mode does not change.
        split: the images.
        metrics: names of metrics; `all` means all that apply to the model and the images, `default` all but slow ones.
        options: arguments of metrics by name, such as `{"nll": {"samples": 500}}`; these metrics are measured as well.
        features: feature network for metrics of samples and of sets of reconstructions, of
            `convae.features.build_feature_network`; required for them.
        seed: seed of posterior samples, prior samples and the bootstrap.
        batch_size: images per batch.
        refinement_steps: steps that refine the posterior of each image, see `convae.latents.refine`; 0 for the
            posterior of the encoder.
        progress: called with the number of processed images.

    Raises:
        ConfigError: unknown metric, invalid arguments, a named metric does not apply, the model has no posterior to
            refine, or the images are not a split.
        ShapeError: the images do not have the input shape of the model.
    """
    engine = torch_engine(model, refinement_steps)
    chosen, configured = choose_metrics(metrics, options or {}, model, split, features is not None)
    found = measure_rows(
        chosen,
        model,
        split,
        seed=seed,
        batch_size=batch_size,
        refinement_steps=refinement_steps,
        progress=progress,
    )
    measured = _measurements(found, chosen, split, seed)
    for name, parts in found.parts.items():
        of_parts = chosen[name]
        value = _to_json(parts.values(), of_parts, name)
        measured[name] = Measurement(value, None, of_parts.unit, of_parts.better, parts=tuple(parts))
    measured = dict(sorted(measured.items()))
    if features is not None:
        measured |= _compare_sets(chosen, engine, split, features, found, seed, batch_size, progress)
    protocol = {
        "data": split.describe(),
        "model": {"name": model.name, "sha256": fingerprint(model)},
        "metrics": configured,
        **_conditions(split, features, seed),
        **describe_refinement(refinement_steps),
    }
    return Report(measured, protocol, found.rows, found.left_out)


def _compare_sets(
    chosen: Mapping[str, Metric],
    engine: InferenceEngine,
    split: Split,
    features: FeatureNetwork,
    found: MetricRows,
    seed: int,
    batch_size: int,
    progress: Progress | None,
) -> dict[str, Measurement]:
    """Metrics of samples and reconstructions against the images; the reasons of those left out are added to `found`."""
    of_sets: dict[str, tuple[FeatureMetric, SetName]] = {
        name: (metric, "samples" if isinstance(metric, SampleMetric) else "reconstructions")
        for name, metric in chosen.items()
        if isinstance(metric, FeatureMetric)
    }
    if not of_sets:
        return {}
    sets: list[SetName] = ["images", *sorted({other for _, other in of_sets.values()})]
    with evaluation_mode(engine.model):
        found_sets = compute_feature_sets(
            engine, split, features, sets, seed=seed, batch_size=batch_size, progress=progress
        )
    measured: dict[str, Measurement] = {}
    for name, (metric, other) in of_sets.items():
        shown = features.metric_aliases.get(name, f"{name}-{features.name}")
        if not bool(found_sets[other].isfinite().all()):
            found.left_out[shown] = f"features of {other} are not finite"
            continue
        estimate = metric.measure(found_sets["images"], found_sets[other], seed)
        value, *ends = (_to_json([each], metric, shown) for each in (estimate.value, *(estimate.interval or ())))
        interval = (ends[0], ends[1]) if ends else None
        measured[shown] = Measurement(value, interval, metric.unit, metric.better)
    return measured


def _conditions(split: Split, features: FeatureNetwork | None, seed: int) -> dict[str, Any]:
    """The protocol apart from data, model and metrics."""
    return {
        "latents": "one sample per image, from a generator keyed by seed and position",
        "aggregate_posterior": f"of all images, at the sampled latents of {min(QUERIES, len(split))}",
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
    """The measurements of metrics; those with equal numbers of rows share bootstrap samples."""
    resampled: dict[str, Tensor] = {}
    for count in {len(rows) for rows in found.rows.values()}:
        same = {name: rows.reshape(count, -1) for name, rows in found.rows.items() if len(rows) == count}
        resampled |= resample_tables(same, seed)
    return {
        name: _measurement(name, chosen[name], rows, resampled[name], split, found.limits.get(name))
        for name, rows in found.rows.items()
    }


def _measurement(
    name: str, metric: Metric, rows: Tensor, resampled: Tensor, split: Split, at_most: float | None
) -> Measurement:
    """The value of a metric and its interval, given its rows and their bootstrap means."""
    value = metric.value(rows.reshape(len(rows), -1).mean(0))
    wrong = (~rows.reshape(len(rows), -1).isfinite()).any(1).nonzero()[:, 0]
    if len(wrong):
        # Rows of a subset, such as labeled images, have no names.
        first = split.key(int(wrong[0])) if len(rows) == len(split) else None
        return Measurement(
            _to_json(value.tolist(), metric, name), None, metric.unit, metric.better, None, len(wrong), first
        )
    ends = None
    if len(rows) > 1 and at_most is None:
        low, high = percentile_interval(metric.value(resampled))
        ends = (_to_json(low.tolist(), metric, name), _to_json(high.tolist(), metric, name))
    return Measurement(_to_json(value.tolist(), metric, name), ends, metric.unit, metric.better, at_most)


def _to_json(values: Iterable[float], metric: Metric, name: str) -> Value:
    """Numbers for JSON, with None for NaN and infinity.

    Raises:
        ConfigError: there is not one number, and the metric does not state `per_value`.
    """
    found = [value if math.isfinite(value) else None for value in values]
    if metric.per_value:
        return found
    if len(found) != 1:
        raise ConfigError(f"metric '{name}': has {count_text(len(found), 'value')}. Set per_value = True in its class")
    return found[0]
