"""The perceptual term: closed forms, a frozen network, and a real encoder from a saved model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import convae
from convae.core.errors import ArtifactError, ConfigError, ShapeError
from convae.core.types import Batch
from convae.objective.objective import build_objective
from convae.objective.schedules.base import Moment
from convae.objective.terms.perceptual import Perceptual


def through(layers: str) -> Perceptual:
    return Perceptual(network={"features.pooled:Pooled": {"layers": layers}})


def test_through_the_identity_it_is_the_relative_squared_error(passed: Any, drawn: Any) -> None:
    x, y = drawn(3, 1, 4, 4, word="x"), drawn(3, 1, 4, 4, word="y")
    wanted = (x - y).square().sum((1, 2, 3)) / x.square().sum((1, 2, 3))
    torch.testing.assert_close(through("identity")(passed(x, y)), wanted)


def test_images_are_moved_by_a_pixel_another_way_at_every_step(passed: Any, drawn: Any) -> None:
    x, y = drawn(2, 1, 6, 6, word="x"), drawn(2, 1, 6, 6, word="y")
    term = through("pool")
    given = passed(x, y)
    found = [term(replace(given, moment=Moment(step, 0.0, 0.0))) for step in range(5)]
    for step, moves in enumerate([(0, 0), (1, 0), (0, 1), (1, 1)]):
        one, two = (torch.nn.functional.avg_pool2d(image.roll(moves, (2, 3)), 2) for image in (x, y))
        wanted = (one - two).square().sum((1, 2, 3)) / one.square().sum((1, 2, 3))
        torch.testing.assert_close(found[step], wanted)
    assert torch.equal(found[4], found[0])
    with torch.no_grad():  # as in validation: the figure does not depend on the step
        torch.testing.assert_close(term(given), torch.stack(found[:4]).mean(0))


def test_what_strides_hide_is_seen_in_the_image(passed: Any, drawn: Any) -> None:
    x = 0.2 + 0.5 * drawn(2, 1, 6, 6)
    chequered = x + 0.1 * (-1) ** torch.arange(6)  # every other column
    torch.testing.assert_close(through("pool")(passed(x, chequered)), torch.zeros(2).double())
    wanted = 0.01 * 36 / x.square().sum((1, 2, 3)) / 2
    torch.testing.assert_close(through("both")(passed(x, chequered)), wanted)


def test_gradients_are_right_and_stop_at_the_network(passed: Any, drawn: Any) -> None:
    x, y = drawn(2, 1, 4, 4, word="x"), drawn(2, 1, 4, 4, word="y").requires_grad_()
    term = through("tanh")
    assert torch.autograd.gradcheck(lambda y: term(passed(x, y)), (y,))


def test_the_network_stays_as_it_was_saved(passed: Any, drawn: Any) -> None:
    term = through("statistics").double().train()
    before = {name: tensor.clone() for name, tensor in term.state_dict().items()}
    given = passed(drawn(2, 1, 4, 4, word="x"), drawn(2, 1, 4, 4, word="y"))
    first = term(given)
    torch.testing.assert_close(term(given), first)
    assert all(torch.equal(tensor, before[name]) for name, tensor in term.state_dict().items())
    assert not any(parameter.requires_grad for parameter in term.parameters())


def test_black_images_have_a_finite_distance(passed: Any, drawn: Any) -> None:
    y = drawn(2, 1, 4, 4).requires_grad_()
    values = through("identity")(passed(torch.zeros_like(y), y))
    values.sum().backward()
    assert values.isfinite().all()


def test_a_recipe_names_a_saved_model(tmp_path: Path, passed: Any, drawn: Any) -> None:
    saved = convae.build({"preset": "torch-vae", "input": [1, 16, 16], "latent": 4, "max_filters": 8}, seed=1)
    path = str(convae.save(saved, tmp_path / "model"))
    made = build_objective({"perceptual": {"network": {"encoder": {"model": path}}, "weight": 3}})
    x, y = drawn(2, 1, 16, 16, word="x").float(), drawn(2, 1, 16, 16, word="y").float().requires_grad_()
    given = passed(x, y)
    losses = made(Batch.of(given.images, given.labels), given.output, given.moment)
    losses.total.backward()
    assert y.grad is not None
    assert y.grad.any()
    assert losses.terms["perceptual"].min() > 0
    with pytest.raises(ShapeError, match=r"objective.perceptual: the encoder of .* does not accept images 3×16×16"):
        colored = passed(x.expand(-1, 3, -1, -1))
        made(Batch.of(colored.images), colored.output, colored.moment)


def test_faults_name_the_term_and_the_network(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"objective.perceptual: 'network' is missing"):
        build_objective({"perceptual": {}})
    with pytest.raises(ConfigError, match=r"objective.perceptual.*eficientnet.*efficientnet-lite0"):
        build_objective({"perceptual": {"network": "eficientnet-lite0"}})
    nothing = {"encoder": {"model": str(tmp_path / "nothing")}}
    with pytest.raises(ArtifactError, match=r"objective.perceptual: .*nothing: no such folder"):
        build_objective({"perceptual": {"network": nothing}})
