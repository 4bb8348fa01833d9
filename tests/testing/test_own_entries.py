"""Every entry of convae's own keeps the contract of its kind: what is checked is in `convae.testing`."""

from __future__ import annotations

from pathlib import Path

import pytest
from stand_ins import install_stand_ins

from convae.evaluation.metrics import METRICS
from convae.model.bottlenecks import BOTTLENECKS
from convae.model.flows import FLOWS
from convae.model.layers import LAYERS
from convae.model.likelihoods import LIKELIHOODS
from convae.model.presets import PRESETS
from convae.model.priors import PRIORS
from convae.model.quantizers import QUANTIZERS
from convae.objective.discriminators import DISCRIMINATORS
from convae.objective.schedules import SCHEDULES
from convae.objective.terms import TERMS
from convae.testing import (
    check_bottleneck,
    check_discriminator,
    check_flow,
    check_layer,
    check_likelihood,
    check_logger,
    check_metric,
    check_optimizer,
    check_preset,
    check_prior,
    check_quantizer,
    check_schedule,
    check_term,
)
from convae.training import LOGGERS
from convae.training.optimizers import OPTIMIZERS

OF_TORCH = ("NAdam", "Adafactor", "Rprop")
NEEDS_FILES = {"lpips"}
"""Metrics whose networks no package brings; their own tests make some."""


@pytest.mark.parametrize("name", LAYERS.own_names())
def test_layers(name: str) -> None:
    check_layer(name)


@pytest.mark.parametrize("name", BOTTLENECKS.own_names())
def test_bottlenecks(name: str) -> None:
    check_bottleneck(name)


@pytest.mark.parametrize("name", FLOWS.own_names())
def test_flows(name: str) -> None:
    check_flow(name)


@pytest.mark.parametrize("name", DISCRIMINATORS.own_names())
def test_discriminators(name: str) -> None:
    check_discriminator(name)


@pytest.mark.parametrize("name", LIKELIHOODS.own_names())
def test_likelihoods(name: str) -> None:
    check_likelihood(name)


@pytest.mark.parametrize("name", PRIORS.own_names())
def test_priors(name: str) -> None:
    check_prior(name)


@pytest.mark.parametrize("name", QUANTIZERS.own_names())
def test_quantizers(name: str) -> None:
    check_quantizer(name)


@pytest.mark.parametrize("name", PRESETS.own_names())
def test_presets(name: str) -> None:
    check_preset(name)


@pytest.mark.parametrize("name", TERMS.own_names())
def test_terms(name: str) -> None:
    check_term(name)


@pytest.mark.parametrize("name", SCHEDULES.own_names())
def test_schedules(name: str) -> None:
    check_schedule(name)


@pytest.mark.parametrize("name", [*OPTIMIZERS.own_names(), *(f"torch.optim:{name}" for name in OF_TORCH)])
def test_optimizers(name: str) -> None:
    check_optimizer(name)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("name", sorted({*METRICS.own_names()} - NEEDS_FILES))
def test_metrics(name: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVAE_CACHE", str(cache))
    check_metric(name)


@pytest.mark.parametrize("name", LOGGERS.own_names())
def test_loggers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    install_stand_ins(monkeypatch)
    check_logger(name)
