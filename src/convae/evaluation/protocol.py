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
from convae.core.version import VERSION
from convae.data import Split, in_order
from convae.evaluation.bootstrap import LEVEL, RESAMPLES, interval, resampled_means
from convae.evaluation.features import Features
from convae.evaluation.metrics import METRICS
from convae.evaluation.metrics.base import Encoded, ImageMetric, LatentMetric, Metric, Passes, SampleMetric
from convae.evaluation.samples import both
from convae.model.artifact import fingerprint
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
    """

    value: Value
    interval: tuple[Value, Value] | None
    unit: str
    better: str | None

    def texts(self) -> tuple[str, str]:
        """Value and interval as people read them; of several values the range and the number."""
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
    """

    figures: dict[str, Figure]
    protocol: dict[str, Any]
    rows: dict[str, Tensor] = field(repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Figures by name, and `protocol`: what goes into the JSON file."""
        figures = {
            name: {
                "value": figure.value,
                "interval": None if figure.interval is None else list(figure.interval),
                "unit": figure.unit,
            }
            for name, figure in self.figures.items()
        }
        return {**figures, "protocol": self.protocol}


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
        model: in whatever mode; it is evaluated in evaluation mode.
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
    model.check_labels(split.labels, split.source)
    chosen, configured = _chosen(metrics, options or {}, model, split, features is not None)
    model.eval()
    rows = _rows(chosen, model, split, seed, batch_size, progress)
    resampled = {count: _resampled(rows, count, seed) for count in {len(part) for part in rows.values()}}
    figures = {
        name: _figure(metric, rows[name], resampled[len(rows[name])][name])
        for name, metric in chosen.items()
        if name in rows
    }
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
    return Report(figures, protocol, rows)


def _chosen(
    names: Sequence[str], options: Mapping[str, Mapping[str, Any]], model: VAE, split: Split, features: bool
) -> tuple[dict[str, Metric], dict[str, dict[str, Any]]]:
    """The metrics to measure by name, and all their arguments."""
    given = {name.replace("_", "-"): of_one for name, of_one in options.items()}
    asked = {name.replace("_", "-") for name in (*names, *given)}
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
def _rows(
    chosen: dict[str, Metric], model: VAE, split: Split, seed: int, batch_size: int, progress: Progress | None
) -> dict[str, Tensor]:
    """What each image adds to each metric, in float64 on the CPU."""
    of_latents = {name: metric for name, metric in chosen.items() if isinstance(metric, LatentMetric)}
    parts: dict[str, list[Tensor]] = {name: [] for name in chosen}
    latents: list[tuple[Tensor, Tensor, Tensor]] = []
    done = 0
    for batch in in_order(split, batch_size, next(model.parameters()).device):
        passes = Passes(model, batch.images, batch.indices, seed, batch.labels)
        for name, metric in chosen.items():
            if isinstance(metric, ImageMetric):
                parts[name].append(metric.rows(passes).cpu().double())
        if of_latents:
            posterior = passes.drawn.posterior
            latents.append((posterior.mean.cpu(), posterior.logvar.cpu(), passes.drawn.latent.cpu()))
        done += len(batch)
        if progress:
            progress(done, len(split), "evaluating (images)")
    rows = {name: torch.cat(own) for name, own in parts.items() if own}
    if of_latents:
        mean, logvar, drawn = (torch.cat(own).double() for own in zip(*latents, strict=True))
        labels = None if split.labels is None else torch.from_numpy(split.labels)
        encoded = Encoded(model, mean, logvar, drawn, labels)
        rows.update({name: metric.rows(encoded) for name, metric in of_latents.items()})
    return {name: rows[name] for name in chosen if name in rows}


def _resampled(rows: dict[str, Tensor], count: int, seed: int) -> dict[str, Tensor]:
    """The resampled means of the metrics that have `count` rows: the same sets of images for all of them."""
    same = {name: own.reshape(count, -1) for name, own in rows.items() if len(own) == count}
    means = resampled_means(torch.cat(list(same.values()), dim=1), seed)
    return dict(zip(same, torch.split(means, [own.shape[1] for own in same.values()], dim=1), strict=True))


def _figure(metric: Metric, rows: Tensor, resampled: Tensor) -> Figure:
    """The figure of a metric's rows, and its interval."""
    value = metric.figure(rows.reshape(len(rows), -1).mean(0))
    ends = None
    if len(rows) > 1:
        low, high = interval(metric.figure(resampled))
        ends = (_plain(low, metric), _plain(high, metric))
    return Figure(_plain(value, metric), ends, metric.unit, metric.better)


def _plain(figure: Tensor, metric: Metric) -> Value:
    """Numbers that JSON knows: NaN and infinity become None."""
    values = [value if math.isfinite(value) else None for value in figure.tolist()]
    return values if metric.per_value else values[0]
