"""What every term and every schedule of the registries keeps."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from torch import nn

from convae.objective.objective import objective
from convae.objective.schedules import SCHEDULES
from convae.objective.schedules.base import Moment, Schedule, schedule
from convae.objective.terms import TERMS

every_term = pytest.mark.parametrize("name", TERMS.names())
every_schedule = pytest.mark.parametrize("name", SCHEDULES.names())
LATER = Moment(30, 3.0, 0.3)


def network(path: str) -> nn.Sequential:
    """A frozen encoder, as a saved model would give one."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(nn.Conv2d(2, 4, 3, stride=2), nn.Tanh(), nn.Conv2d(4, 5, 3), nn.Tanh(), nn.Flatten())


def term(name: str) -> Any:
    return objective({name: dict(TERMS.get(name).example)}, network).terms[name]


@every_term
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_term_gives_a_finite_figure_for_each_image_and_a_gradient(
    name: str, dtype: torch.dtype, passed: Any, drawn: Any
) -> None:
    x, y = drawn(3, 2, 12, 13, word="x").to(dtype), drawn(3, 2, 12, 13, word="y").to(dtype)
    mean, logvar = drawn(3, 4, word="m", low=-2, high=2).to(dtype), drawn(3, 4, word="v", low=-2, high=2).to(dtype)
    logits = drawn(3, 5, word="l").to(dtype)
    leaves = [tensor.requires_grad_() for tensor in (y, mean, logvar, logits)]
    labels = torch.tensor([0, -1, 4])
    made = term(name).to(dtype)
    values = made(passed(x, y, mean=mean, logvar=logvar, labels=labels, logits=logits, moment=LATER))
    assert values.shape == (3,)
    assert values.dtype == dtype
    assert values.isfinite().all()
    values.sum().backward()
    gradients = [leaf.grad for leaf in leaves if leaf.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() and gradient.any() for gradient in gradients)
    assert not any(parameter.requires_grad for parameter in made.parameters())


@every_term
def test_the_figure_of_an_image_does_not_depend_on_the_order_of_the_batch(name: str, passed: Any, drawn: Any) -> None:
    x, y, mean = drawn(3, 2, 12, 13, word="x"), drawn(3, 2, 12, 13, word="y"), drawn(3, 4, word="m", low=-2, high=2)
    labels, logits, turned = torch.tensor([0, 1, -1]), drawn(3, 5, word="l"), torch.tensor([2, 0, 1])
    made = term(name).double()
    values = made(passed(x, y, mean=mean, labels=labels, logits=logits))
    again = made(passed(x[turned], y[turned], mean=mean[turned], labels=labels[turned], logits=logits[turned]))
    torch.testing.assert_close(again, values[turned])


@every_term
def test_a_term_says_its_unit_and_what_it_is(name: str) -> None:
    assert TERMS.get(name).unit
    assert TERMS.summary(name).endswith("."), name
    assert objective({name: dict(TERMS.get(name).example)}, network).units == {name: TERMS.get(name).unit}


def made(name: str) -> Schedule:
    return schedule({name: dict(SCHEDULES.get(name).example)}, "here")


@every_schedule
def test_a_schedule_is_finite_and_pure(name: str) -> None:
    one, other = made(name), made(name)
    moments = [Moment(step, step / 7, step / 210) for step in range(211)]
    values = [one(moment) for moment in moments]
    assert all(isinstance(value, float) and math.isfinite(value) for value in values)
    assert [other(moment) for moment in reversed(moments)] == values[::-1]


@every_schedule
def test_a_schedule_says_what_it_is(name: str) -> None:
    assert SCHEDULES.summary(name).endswith("."), name


@every_schedule
def test_a_schedule_can_be_read_back_from_its_written_form(name: str) -> None:
    """Through JSON the beginnings of stairs become strings."""
    example = json.loads(json.dumps(dict(SCHEDULES.get(name).example)))
    again = schedule({name: example}, "here")
    moments = [Moment(step, step / 7, step / 210) for step in range(211)]
    assert [again(moment) for moment in moments] == [made(name)(moment) for moment in moments]
