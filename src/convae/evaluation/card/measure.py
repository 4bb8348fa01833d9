"""Measuring the card of a model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from convae.core.arguments import Named, parse_arguments
from convae.core.errors import ShapeError
from convae.core.progress import Progress
from convae.core.random import torch_generator
from convae.core.registry import canonical_name
from convae.data import Split
from convae.evaluation.card.card import Card
from convae.evaluation.metrics import METRICS
from convae.evaluation.metrics.base import FeatureMetric, Metric
from convae.evaluation.protocol import Report, evaluate
from convae.evaluation.spectrum import frequencies, relative_power
from convae.features.networks.base import FeatureNetwork, build_feature_network
from convae.model.card import model_card_body
from convae.model.fingerprint import fingerprint
from convae.model.inputs import weights_type
from convae.model.layers.base.network import count_parameters
from convae.model.vae import VAE
from convae.objective.similarity import SCALE_WEIGHTS, least_size

SLOW = (
    "active-channels",
    "equivariance-rotation",
    "equivariance-scale",
    "image-spectrum-slope",
    "kl-per-channel",
    "latent-mean",
    "latent-spectrum-slope",
    "latent-std",
    "linear-probe",
)
"""Metrics of a card that are not in the group `default`."""
TOO_LONG = ("kl-per-unit",)
"""Metrics of the group `default` that a card leaves to `convae evaluate`: one value for each latent value."""
PROBE_LIMIT = 1_000_000
"""Largest number of latent values of all images for `linear-probe`, unless it is named."""
UNIT_LIMIT = 50_000_000
"""The same for `active-units` and `active-channels`, whose intervals need two numbers of each value in memory."""


def measure_card(
    model: VAE,
    split: Split,
    *,
    features: Named | None = None,
    metrics: Sequence[str] = (),
    options: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> Card:
    """Measures the card of a model on all images of a split.

    It has every metric that applies, but slow ones (`nll`, metrics of factors) only if named. Metrics that do not apply
    are listed with the reason.

    Args:
        model: the model; its training mode does not change.
        split: the images.
        features: name, or name and arguments, of the feature network; without it, metrics in features are left out.
        metrics: further metrics.
        options: arguments of metrics by name, such as `{"nll": {"samples": 500}}`; these metrics are measured as well.
        seed: seed of posterior samples, prior samples and intervals.
        batch_size: images per batch.
        progress: called with the number of processed images.

    Raises:
        ConfigError: unknown metric or feature network, invalid arguments, or a named metric does not apply.
        ShapeError: the images do not have the input shape of the model.
    """
    given = {canonical_name(name): dict(of_one) for name, of_one in (options or {}).items()}
    network = None if features is None else build_feature_network(features).to(next(model.parameters()).device)
    fault = "it needs a feature network (--features)" if network is None else _refusal(network, model)
    if fault is None:
        given.setdefault("feature-distance", {"network": features})
    scales = sum(least_size(number) <= min(split.shape[1:]) for number in range(2, len(SCALE_WEIGHTS) + 1)) + 1
    if scales > 1:
        given.setdefault("ms-ssim", {"scales": scales})
    names, left_out = _choose_metrics(metrics, given, fault, model, split)
    report = evaluate(
        model,
        split,
        metrics=names,
        options={name: of_one for name, of_one in given.items() if name not in left_out},
        features=network if fault is None else None,
        seed=seed,
        batch_size=batch_size,
        progress=progress,
    )
    protocol = {key: value for key, value in report.protocol.items() if key != "model"}
    kind, device = weights_type(model)
    resizing = f"antialiased {protocol['data'].get('interpolation', 'bicubic')}"
    protocol["data"] = {**protocol["data"], "resizing": resizing}
    protocol["precision"] = {"weights": str(kind).removeprefix("torch."), "device": device and device.type}
    return Card(
        model.name,
        _facts(model),
        report.metrics,
        {**left_out, **report.left_out},
        _spectra(report, model),
        protocol,
        model_card_body(model),
    )


def _choose_metrics(
    named: Sequence[str], options: Mapping[str, Mapping[str, Any]], fault: str | None, model: VAE, split: Split
) -> tuple[list[str], dict[str, str]]:
    """Chooses the metrics of a card; returns their names, and the reason of each that is left out.

    Args:
        named: further metrics.
        options: arguments of metrics by name.
        fault: why there are no metrics in features; None if there are.
        model: the model.
        split: the images.
    """
    names, left_out = [*named], {}
    for name in METRICS.names():
        target = METRICS.get(name)
        if name in TOO_LONG or not (target.default or name in SLOW) or name in map(canonical_name, named):
            continue
        metric: Metric = target(**parse_arguments(target, options.get(name), f"metric {name}"))
        needs_features = isinstance(metric, FeatureMetric) or name == "feature-distance"
        reason = (fault if needs_features else None) or _reason(name, metric, model, split)
        if reason is None:
            names.append(name)
        else:
            left_out[name] = reason
    return names, left_out


def _refusal(network: FeatureNetwork, model: VAE) -> str | None:
    """The reason why a network does not accept the images of a model; None if it does."""
    device = next(network.parameters(), torch.empty(0)).device
    images = torch.rand(2, *model.input_shape, generator=torch_generator(0, "card")).to(device)
    try:
        with torch.no_grad():
            network(images)
            network.distance(images, images)
    except ShapeError as error:
        return str(error)
    return None


def _reason(name: str, metric: Metric, model: VAE, split: Split) -> str | None:
    """The reason why a metric is left out; None if it is measured."""
    if metric.needs_whole_images and split.missing is not None:
        return "it needs images without missing values"
    if not metric.applies(model, split):
        return metric.refusal(model, split) or "it does not apply to this model"
    limits = {"linear-probe": PROBE_LIMIT, "active-units": UNIT_LIMIT, "active-channels": UNIT_LIMIT}
    if len(split) * model.latent_layout.size > limits.get(name, math.inf):
        return f"it takes long with so many latent values: name it (--metrics {name})"
    return None


def _facts(model: VAE) -> dict[str, Any]:
    """Facts about the model."""
    values, latent = math.prod(model.input_shape), model.latent_layout.size
    trained, imported = model.provenance.training, model.provenance.imported
    found = {
        "sha256": fingerprint(model),
        "parameters": count_parameters(model),
        "input": list(model.input_shape),
        "latent": list(model.latent_shape),
        "values_per_latent_value": values / latent,
        "bottleneck": type(model.bottleneck).__name__,
        "likelihood": type(model.head).__name__,
        "prior": type(model.prior).__name__,
    }
    if trained is not None:
        found["training"] = {"recipe": trained.recipe, "step": trained.step, "which": trained.which}
    if imported is not None:
        found["imported"] = {"file": imported.file, "source": imported.source, "sha256": imported.sha256}
    return found


def _spectra(report: Report, model: VAE) -> dict[str, dict[str, list[float]]]:
    """Power spectra of images and latents, as far as their slopes were measured."""
    channels = {"image": model.input_shape[0], "latent": model.latent_shape[0]}
    found = {}
    for name, count in channels.items():
        rows = report.rows.get(f"{name}-spectrum-slope")
        if rows is not None:
            power = relative_power(rows.mean(0), count)
            if bool(power.isfinite().all()):
                found[name] = {"frequency": frequencies(len(power)).tolist(), "power": power.tolist()}
    return found
