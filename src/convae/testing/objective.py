"""Checks of loss terms and schedules."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import convae
from convae.core.errors import ConfigError
from convae.core.random import torch_generator
from convae.core.types import Batch
from convae.model.vae import VAE
from convae.objective.objective import Losses, build_objective
from convae.objective.schedules import SCHEDULES
from convae.objective.schedules.base import Moment, Schedule, build_schedule
from convae.objective.terms import TERMS
from convae.objective.terms.base import Term
from convae.testing.entries import name_of, no_errors, require

_LATER = Moment(30, 3.0, 0.3)
_IMAGE = (2, 12, 13)
_CONV = {"conv": {"channels": 4, "stride": 4}}
_DECODER = [
    "flatten",
    {"linear": {"features": math.prod(_IMAGE)}},
    {"unflatten": {"to": list(_IMAGE)}},
]
_MODELS: dict[str, dict[str, Any]] = {
    "a Gaussian bottleneck and a classifier": {
        "input": list(_IMAGE),
        "encoder": [_CONV, "flatten"],
        "bottleneck": {"gaussian": {"latent": 4}},
        "decoder": _DECODER[1:],
        "likelihood": "gaussian",
        "classifier": [{"linear": {"features": 5}}],
    },
    "a codebook": {
        "input": list(_IMAGE),
        "encoder": [_CONV],
        "bottleneck": {"vq": {"codes": 7, "latent": 3, "update": "gradient"}},
        "decoder": _DECODER,
        "likelihood": "gaussian",
    },
}
"""Models that a term may need, small ones."""


def check_term(term: str | type[Term]) -> None:
    """Checks that a loss term keeps its contract, in its `example`.

    It gives one finite value for each image, in its stated unit, in float32 and in float64, whatever the order of the
    batch; a gradient reaches the model, and none its own parameters.

    Args:
        term: the class, or the name of a registered one.

    Raises:
        AssertionError: it does not; the message says what is wrong.
    """
    name = name_of(TERMS, term)
    where = f"term {name}"
    with no_errors(where):
        made = build_objective({name: dict(TERMS.get(name).example)}, _frozen_encoder)
    require(made.units.get(name), f"{where}: needs its unit")
    trained = [key for key, parameter in made.named_parameters() if parameter.requires_grad]
    require(not trained, f"{where}: its own parameters want gradients: {', '.join(trained)}")
    model = _model_for(made, where)
    for dtype in (torch.float32, torch.float64):
        _check_values(name, made.to(dtype), model.to(dtype), f"{where} in {dtype}".replace("torch.", ""))


def check_schedule(kind: str | type[Schedule]) -> None:
    """Checks that a schedule keeps its contract, in its `example`: finite, and a pure function of the moment.

    Args:
        kind: the class, or the name of a registered one.

    Raises:
        AssertionError: it does not; the message says what is wrong.
    """
    name = name_of(SCHEDULES, kind)
    where = f"schedule {name}"
    example = dict(SCHEDULES.get(name).example)
    with no_errors(where):
        # Through JSON, numbers that are keys become texts.
        one = build_schedule({name: example}, where)
        other = build_schedule({name: json.loads(json.dumps(example))}, where)
    moments = [Moment(step, step / 7, step / 210) for step in range(211)]
    values = [one(moment) for moment in moments]
    for moment, value in zip(moments, values, strict=True):
        require(isinstance(value, float) and math.isfinite(value), f"{where}: gives {value!r} at {moment}")
    require(
        [one(moment) for moment in reversed(moments)] == values[::-1], f"{where}: depends on what it was asked before"
    )
    require([other(moment) for moment in moments] == values, f"{where}: written as JSON, it is another schedule")


def _frozen_encoder(path: Path) -> nn.Sequential:
    """The network of a term that compares with what a saved model sees."""
    del path
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(nn.Conv2d(2, 4, 3, stride=2), nn.Tanh(), nn.Conv2d(4, 5, 3), nn.Tanh(), nn.Flatten())


def _model_for(made: nn.Module, where: str) -> VAE:
    """The first model that a term can judge."""
    faults = []
    for has, spec in _MODELS.items():
        model = convae.build(spec, seed=1).eval()
        try:
            _losses(made, model, torch.arange(3))
        except ConfigError as error:
            faults.append(f"with {has}: {error}")
            continue
        return model
    raise AssertionError(f"{where}: can be measured on none of the models that were tried: {'; '.join(faults)}")


def _losses(made: nn.Module, model: VAE, order: Tensor) -> Losses:
    """What three images cost, in an order."""
    dtype = next(model.parameters()).dtype
    images = torch.rand(3, *_IMAGE, generator=torch_generator(0, "images"), dtype=torch.float64).to(dtype)[order]
    labels = torch.tensor([0, -1, 4])[order]
    generators = [torch_generator(1, "latent", index) for index in order.tolist()]
    losses: Losses = made(Batch(images, labels, order), model(images, generators, labels), _LATER)
    return losses


def _check_values(name: str, made: nn.Module, model: VAE, where: str) -> None:
    with no_errors(where):
        values = _losses(made, model, torch.arange(3)).terms[name]
    require(values.shape == (3,), f"{where}: gives the shape {tuple(values.shape)}, needs (batch,)")
    require(values.isfinite().all(), f"{where}: gives values that are not finite")
    require(values.requires_grad, f"{where}: gives values that do not depend on the model")
    leaves = list(model.parameters())
    gradients = [each for each in torch.autograd.grad(values.sum(), leaves, allow_unused=True) if each is not None]
    require(any(gradient.any() for gradient in gradients), f"{where}: no gradient reaches the model")
    require(all(gradient.isfinite().all() for gradient in gradients), f"{where}: gives gradients that are not finite")
    turned = torch.tensor([2, 0, 1])
    again = _losses(made, model, turned).terms[name]
    same = torch.allclose(again, values[turned], rtol=1e-4, atol=1e-5)
    require(same, f"{where}: the value of an image depends on the order of the batch")
