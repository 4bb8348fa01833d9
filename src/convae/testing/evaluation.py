"""Contract test of metrics."""

from __future__ import annotations

import functools
import json
import math
from typing import Any

import numpy as np
import torch

import convae
from convae.data import DataConfig, Split, open_split
from convae.evaluation import evaluate
from convae.evaluation.metrics import METRICS
from convae.evaluation.metrics.base import CountMetric, FactorMetric, FeatureMetric, ImageMetric, LatentMetric, Metric
from convae.features.networks.encoder import Encoder
from convae.latents.batches import iterate_batches
from convae.model.vae import VAE
from convae.testing.entries import name_of, no_errors, require, unchanged

_SPEC: dict[str, Any] = {
    "input": [1, 24, 24],
    "encoder": ["flatten"],
    "bottleneck": {"gaussian": {"latent": 3}},
    "decoder": [{"linear": {"features": 576}}, {"unflatten": {"to": [1, 24, 24]}}],
    "likelihood": "discretized-logistic",
    "classifier": [{"linear": {"features": 10}}],
}
"""A model for which most metrics are defined."""
_CONV = {"conv": {"channels": 4, "stride": 4}}
_OTHERS = {
    "codes": {**_SPEC, "encoder": [_CONV, "flatten"], "bottleneck": {"vq": {"codes": 5, "latent": 3}}},
    "several latents": {
        **_SPEC,
        "encoder": [_CONV, {"feature": {"name": "map"}}, "flatten"],
        "decoder": [
            {"linear": {"features": 144}},
            {"unflatten": {"to": [4, 6, 6]}},
            {"latent": {"channels": 2, "feature": "map"}},
            "flatten",
            *_SPEC["decoder"],
        ],
    },
    "a map": {
        **_SPEC,
        "encoder": [{"conv": {"channels": 3, "stride": 4}}],
        "bottleneck": {"gaussian": {"latent": 2}},
        "decoder": [{"conv-transpose": {"channels": 1, "stride": 4}}],
        "classifier": None,
    },
}
"""Models for the other metrics."""


def check_metric(metric: str | type[Metric], options: dict[str, Any] | None = None) -> None:
    """Checks the contract of a metric on scikit-learn's digits, or on sprites if it needs factors, with a small model.

    It states its unit and direction; its value is finite and independent of the batch size and of the other metrics; a
    report with it is valid JSON.

    Args:
        metric: class or registered name.
        options: its arguments; without them its `example`.

    Raises:
        AssertionError: the contract is violated.
    """
    name = name_of(METRICS, metric)
    where = f"metric {name}"
    kind: type[Metric] = METRICS.get(name)
    given = dict(kind.example if options is None else options)
    kinds = (CountMetric, FactorMetric, FeatureMetric, ImageMetric, LatentMetric)
    names = ", ".join(each.__name__ for each in kinds)
    require(issubclass(kind, kinds), f"{where}: must be a subclass of one of {names}")
    require(getattr(kind, "unit", ""), f"{where}: must define unit")
    require(
        getattr(kind, "better", "") in ("higher", "lower", None), f"{where}: must define better: higher, lower or None"
    )
    split = _sprites() if issubclass(kind, FactorMetric) else _digits()
    model = _model_for(kind(**given), split)
    _check_inputs(kind(**given), model, split, where)
    features = Encoder(model=model) if issubclass(kind, FeatureMetric) else None
    with no_errors(where):
        once, again = (
            evaluate(model, split, metrics=[name], options={name: given}, features=features, batch_size=size)
            for size in (len(split), 37)
        )
    found, other = once.as_dict(), again.as_dict()
    json.dumps(found, allow_nan=False)
    (called,) = set(found) - {"protocol", "left_out"} or {""}
    require(called, f"{where}: was not measured: {once.left_out}")
    require(_is_finite(found[called]["value"]), f"{where}: its value is not finite: {found[called]['value']}")
    close = np.allclose(found[called]["value"], other[called]["value"], rtol=1e-4, atol=1e-5)
    require(close, f"{where}: its value depends on the batch size. Return one row per image")


@torch.no_grad()
def _check_inputs(metric: Metric, model: VAE, split: Split, where: str) -> None:
    """Checks that a metric leaves images and reconstructions as they are, since other metrics use them."""
    _, batch = next(iter(iterate_batches(model, split, batch_size=16, seed=0)))
    with no_errors(where), unchanged(where, batch.images, batch.reconstruction.mean, batch.drawn.latent):
        if isinstance(metric, ImageMetric):
            metric.rows(batch)
        if isinstance(metric, CountMetric):
            metric.counts(batch)


def _is_finite(value: Any) -> bool:
    values = value if isinstance(value, list) else [value]
    return all(isinstance(each, float) and math.isfinite(each) for each in values)


@functools.cache
def _model(which: str) -> VAE:
    model = convae.build(_OTHERS.get(which, _SPEC), seed=1)
    with torch.no_grad():  # every posterior differs from the prior
        for parameter in model.bottleneck.parameters():
            parameter.mul_(3)
    return model.eval()


def _model_for(metric: Metric, split: Split) -> VAE:
    """The first model to which a metric applies."""
    models = [_model(which) for which in ("one Gaussian latent", *_OTHERS)]
    return next((model for model in models if metric.applies(model, split)), models[0])


def _digits() -> Split:
    return open_split(DataConfig(source="digits", size=(24, 24)), "test")


def _sprites() -> Split:
    return open_split(DataConfig(source={"sprites": {"count": 400, "size": 24}}, channels=1), "all")
