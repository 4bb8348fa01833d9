"""Contract tests of loss terms and schedules."""

from __future__ import annotations

import json
import math
from typing import Any

import torch
from torch import Tensor

import convae
from convae.core.errors import ConfigError, ShapeError
from convae.core.output import Output
from convae.core.random import torch_generator
from convae.core.types import Batch
from convae.model.vae import VAE
from convae.objective.objective import Losses, Objective, build_objective
from convae.objective.schedules import SCHEDULES
from convae.objective.schedules.base import Moment, Schedule, build_schedule
from convae.objective.terms import TERMS
from convae.objective.terms.base import LossInputs, Term
from convae.testing.entries import name_of, no_errors, require, unchanged

_LATER = Moment(30, 3.0, 0.3)
_IMAGE = (3, 12, 13)
_IMAGES = 6
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
    "a latent map": {
        "input": list(_IMAGE),
        "encoder": [_CONV],
        "bottleneck": {"gaussian": {"latent": 3}},
        "decoder": [{"conv-transpose": {"channels": 3, "kernel": 8, "stride": 4, "output_padding": [3, 0]}}],
        "likelihood": "gaussian",
    },
    "a codebook": {
        "input": list(_IMAGE),
        "encoder": [_CONV],
        "bottleneck": {"vq": {"codes": 7, "latent": 3, "update": "gradient"}},
        "decoder": _DECODER,
        "likelihood": "gaussian",
    },
    "codes of bits": {
        "input": list(_IMAGE),
        "encoder": [_CONV],
        "bottleneck": {"lfq": {"bits": 3, "temperature": 4.0}},
        "decoder": _DECODER,
        "likelihood": "gaussian",
    },
}
"""Small models, one of which suits each term."""


def check_term(term: str | type[Term]) -> None:
    """Checks the contract of a loss term with its `example`.

    It returns one finite value per image in float32 and float64, independent of the order of the batch, and states its
    unit; the model receives a gradient, the term's own parameters do not.

    Args:
        term: class or registered name.

    Raises:
        AssertionError: the contract is violated.
    """
    name = name_of(TERMS, term)
    where = f"term {name}"
    with no_errors(where):
        kind = TERMS.get(name)
        made = build_objective({each: dict(TERMS.get(each).example) for each in (name, *kind.required_terms)})
    require(made.units.get(name), f"{where}: must define its unit")
    trained = [key for key, parameter in made.named_parameters() if parameter.requires_grad]
    require(not trained, f"{where}: its own parameters require gradients: {', '.join(trained)}")
    model = _model_for(made, where)
    _check_critic(name, made, model, where)
    for dtype in (torch.float32, torch.float64):
        for critic in made.critics.values():
            critic.to(dtype)
        _check_values(name, made.to(dtype), model.to(dtype), f"{where} in {dtype}".replace("torch.", ""))


def check_schedule(kind: str | type[Schedule]) -> None:
    """Checks the contract of a schedule with its `example`: finite, and a pure function of the moment.

    Args:
        kind: class or registered name.

    Raises:
        AssertionError: the contract is violated.
    """
    name = name_of(SCHEDULES, kind)
    where = f"schedule {name}"
    example = dict(SCHEDULES.get(name).example)
    with no_errors(where):
        # JSON turns numeric keys into strings.
        one = build_schedule({name: example}, where)
        other = build_schedule({name: json.loads(json.dumps(example))}, where)
    moments = [Moment(step, step / 7, step / 210) for step in range(211)]
    values = [one(moment) for moment in moments]
    for moment, value in zip(moments, values, strict=True):
        require(
            isinstance(value, float) and math.isfinite(value),
            f"{where}: must return a finite float, got {value!r} at {moment}",
        )
    require(
        [one(moment) for moment in reversed(moments)] == values[::-1],
        f"{where}: must be a pure function of the moment, but depends on earlier calls",
    )
    require(
        [other(moment) for moment in moments] == values,
        f"{where}: gives different values after a round trip through JSON",
    )


def _model_for(made: Objective, where: str) -> VAE:
    """The first model on which the term is defined."""
    faults = []
    for has, spec in _MODELS.items():
        model = convae.build(spec, seed=1).eval()
        made.bind_teacher(convae.build(spec, seed=2).eval())
        try:
            _losses(made, model, torch.arange(_IMAGES), where)
        except ConfigError as error:
            faults.append(f"with {has}: {error}")
            continue
        except ShapeError as error:
            raise AssertionError(f"{where}: {error}") from error
        return model
    raise AssertionError(f"{where}: is not defined for any of the tested models: {'; '.join(faults)}")


def _check_critic(name: str, made: Objective, model: VAE, where: str) -> None:
    """Checks the network of a term: its weights, and its loss."""
    critic = made.terms[name].critic
    if critic is None:
        return
    made.bind(model.latent_shape, model.input_shape)
    require(made.terms[name].critic is critic, f"{where}: bind must keep the critic of the same shapes")
    own = {each: dict(TERMS.get(each).example) for each in (name, *TERMS.get(name).required_terms)}
    other = build_objective(own)
    other.bind(model.latent_shape, model.input_shape)
    again = other.critics[name].state_dict()
    for key, value in critic.state_dict().items():
        require(
            torch.equal(value, again[key]), f"{where}: {key} of its critic is not deterministic. Draw it from a seed"
        )
    with torch.no_grad():
        inputs = _inputs(model, torch.arange(_IMAGES), made.samples)
    values = critic.train().loss(LossInputs(inputs[0].images, inputs[0].labels, inputs[1], _LATER))
    require(
        values.shape == (_IMAGES,), f"{where}: the loss of its critic has the shape {tuple(values.shape)}, not (batch,)"
    )
    require(values.isfinite().all(), f"{where}: the loss of its critic is not finite")
    require(values.requires_grad, f"{where}: the loss of its critic does not depend on the critic")


def _inputs(model: VAE, order: Tensor, samples: int) -> tuple[Batch, Output]:
    """Six images in an order, two of some classes and one without, and the output of a model for them."""
    dtype = next(model.parameters()).dtype
    images = torch.rand(_IMAGES, *_IMAGE, generator=torch_generator(0, "images"), dtype=torch.float64).to(dtype)[order]
    labels = torch.tensor([0, -1, 4, 0, 4, 2])[order]
    generators = [torch_generator(1, "latent", index) for index in order.tolist()]
    return Batch(images, labels, order), model(images, generators, labels, samples=samples)


def _losses(made: Objective, model: VAE, order: Tensor, where: str) -> Losses:
    """The losses of images in an order."""
    made.bind(model.latent_shape, model.input_shape)
    batch, output = _inputs(model, order, made.samples)
    with unchanged(where, batch.images, output.latent, output.likelihood.mean):
        losses: Losses = made(batch, output, _LATER)
    return losses


def _check_values(name: str, made: Objective, model: VAE, where: str) -> None:
    with no_errors(where):
        values, again = (_losses(made, model, torch.arange(_IMAGES), where).terms[name] for _ in range(2))
    require(values.shape == (_IMAGES,), f"{where}: must return the shape (batch,), got {tuple(values.shape)}")
    require(values.isfinite().all(), f"{where}: its values are not finite")
    same = torch.equal(values, again)
    require(
        same, f"{where}: must be a pure function of its inputs, but depends on earlier calls or draws without a seed"
    )
    require(values.requires_grad, f"{where}: its values do not depend on the model")
    leaves = list(model.parameters())
    gradients = [each for each in torch.autograd.grad(values.sum(), leaves, allow_unused=True) if each is not None]
    require(any(gradient.any() for gradient in gradients), f"{where}: the model receives no gradient")
    require(all(gradient.isfinite().all() for gradient in gradients), f"{where}: its gradients are not finite")
    turned = torch.tensor([2, 0, 1, 4, 5, 3])
    again = _losses(made, model, turned, where).terms[name]
    same = torch.allclose(again, values[turned], rtol=1e-4, atol=1e-5)
    require(same, f"{where}: the value of an image depends on the order of the batch")
