"""The alignment term: the losses of VA-VAE, its projection, and the models and networks that it refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from convae.core.errors import ConfigError
from convae.objective.objective import build_objective
from convae.objective.terms.alignment import Alignment

POOLED = "features.pooled:Pooled"


def made(latent: tuple[int, ...] = (3, 4, 4), **options: Any) -> Alignment:
    term = Alignment(network={POOLED: {"layers": "both"}}, **{"adaptive": False, **options})
    term.bind(latent, (1, 8, 8))
    return term


def projected(term: Alignment) -> Tensor:
    assert term.critic is not None
    return term.critic.weight.detach()


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return torch.nn.functional.cosine_similarity(a, b, dim=0)


def of_the_paper(z: Tensor, f: Tensor, cosine_margin: float, distance_margin: float) -> Tensor:
    """Marginal cosine similarity and marginal distance matrix similarity of lists of vectors (Yao et al. 2025)."""
    first = [(1 - cosine_margin - cosine(own, other)).clamp_min(0) for own, other in zip(z, f, strict=True)]
    second = [
        ((cosine(z[i], z[j]) - cosine(f[i], f[j])).abs() - distance_margin).clamp_min(0)
        for i in range(len(z))
        for j in range(len(z))
    ]
    return torch.stack(first).mean() + torch.stack(second).mean()


@pytest.mark.parametrize("margins", [(0.5, 0.25), (0.0, 0.0)])
def test_it_is_the_sum_of_both_losses_of_the_paper(margins: tuple[float, float], passed: Any, drawn: Any) -> None:
    term = Alignment(network="features.pooled:Channels", cosine_margin=margins[0], distance_margin=margins[1])
    term.bind((3, 2, 2), (1, 4, 4))
    z, x = drawn(2, 3, 2, 2, word="z", low=-1, high=1), drawn(2, 1, 4, 4)
    found = term(passed(x, mean=z))
    features = term.network.maps(x)[-1]
    weight = projected(term).double()
    for image in range(2):
        vectors = (weight @ z[image].flatten(1)).T, features[image].flatten(1).T
        torch.testing.assert_close(found[image], of_the_paper(*vectors, *margins))


def test_projected_latents_that_are_the_features_cost_nothing(passed: Any, drawn: Any) -> None:
    x = drawn(2, 1, 4, 4, low=-1, high=1)
    term = Alignment(network="features.pooled:Channels", cosine_margin=0.0, distance_margin=0.0)
    features = term.network.maps(x)[-1]
    term.bind((4, 2, 2), (1, 4, 4))
    assert term.critic is not None
    with torch.no_grad():
        term.critic.weight.copy_(torch.eye(4))
    torch.testing.assert_close(term(passed(x, mean=3 * features)), torch.zeros(2).double(), atol=1e-12, rtol=0)


def test_the_model_learns_from_the_term_and_the_projection_from_its_own_loss(passed: Any, drawn: Any) -> None:
    term = made(cosine_margin=0.0, distance_margin=0.0)
    critic = term.critic
    assert critic is not None
    z, x = drawn(2, 3, 4, 4, word="z", low=-1, high=1).requires_grad_(), drawn(2, 1, 8, 8).requires_grad_()
    given = passed(x, mean=z)
    values = term(given)
    values.sum().backward()
    assert z.grad is not None
    assert z.grad.any()
    assert x.grad is None
    assert critic.weight.grad is None
    z.grad = None
    loss = critic.loss(given)
    torch.testing.assert_close(loss, values)
    loss.sum().backward()
    assert z.grad is None
    assert critic.weight.grad is not None
    assert critic.weight.grad.any()
    assert not any(name for name, _ in critic.named_modules() if name)


def test_gradients_are_right(passed: Any, drawn: Any) -> None:
    term = made(cosine_margin=0.1, distance_margin=0.05)
    z, x = drawn(2, 3, 4, 4, word="z", low=-1, high=1).requires_grad_(), drawn(2, 1, 8, 8, low=-1)
    assert torch.autograd.gradcheck(lambda z: term(passed(x, mean=z)), (z,))


@pytest.mark.parametrize(("weight", "max_ratio"), [(1.0, 1e8), (0.25, 1e8), (1.0, 0.5)])
def test_the_adaptive_gradient_is_relative_to_that_of_other_terms(
    weight: float, max_ratio: float, passed: Any, drawn: Any
) -> None:
    margins: dict[str, Any] = {"cosine_margin": 0.0, "distance_margin": 0.0}
    term, plain = made(adaptive=True, max_ratio=max_ratio, **margins), made(**margins)
    critic = term.critic
    assert critic is not None
    critic.double()
    x, start = drawn(2, 1, 8, 8), drawn(2, 3, 4, 4, word="z", low=-1, high=1)

    def gradient(chosen: Alignment | None, own: float = weight) -> Tensor:
        z = start.clone().requires_grad_()
        latent = 1.0 * z
        total = 3 * latent.square().sum()
        if chosen is not None:
            given = replace(passed(x, mean=latent), weight=own)
            assert given.output.latent is latent
            total = total + own * chosen(given).mean()
        found: tuple[Tensor, ...] = torch.autograd.grad(total, z)
        return found[0]

    others = gradient(None)
    mine = gradient(plain, 1.0) - others
    torch.testing.assert_close(gradient(term), others)  # the ratio is not known yet
    ratio = min(float(others.norm() / mine.norm()), max_ratio)
    torch.testing.assert_close(gradient(term), others + weight * ratio * mine)
    assert float(critic.metrics()["ratio"]) == pytest.approx(ratio, rel=1e-6)
    assert not plain.critic or not plain.critic.metrics()


def test_features_of_a_step_are_computed_once_for_model_and_projection(passed: Any, drawn: Any) -> None:
    term = made()
    calls = []
    maps = term.network.maps
    term.network.maps = lambda images: calls.append(1) or maps(images)  # type: ignore[method-assign,func-returns-value]
    assert term.critic is not None
    z = drawn(2, 3, 4, 4, word="z")
    for _ in range(2):
        given = passed(drawn(2, 1, 8, 8), mean=z)
        term(given)
        term.critic.loss(given)
    assert len(calls) == 2
    other = passed(drawn(2, 1, 8, 8, word="other"), mean=z)
    term(given)
    term.critic.loss(other)  # of other images
    assert len(calls) == 4


@pytest.mark.parametrize(
    ("latent", "layer", "chosen"),
    [((2, 4, 4), None, 1), ((2, 8, 8), None, 0), ((2, 16, 16), None, 0), ((2, 8, 8), -1, 1), ((2, 4, 4), 0, 0)],
)
def test_the_map_is_the_last_that_is_as_large_as_the_latent(
    latent: tuple[int, ...], layer: int | None, chosen: int, passed: Any, drawn: Any
) -> None:
    x, z = drawn(1, 1, 8, 8, low=-1), drawn(1, *latent, word="z", low=-1)
    term = made(latent=latent, layer=layer)
    features = term.network.maps(x)[chosen]
    torch.testing.assert_close(term(passed(x, mean=z)), term.value(z, projected(term), features))


@pytest.mark.parametrize(
    ("layers", "latent", "options", "part"),
    [("both", (3,), {}, "latent map"), ("both", (3, 4, 4), {"layer": 2}, "maps 0, 1")],
)
def test_what_cannot_be_compared_is_refused(layers: str, latent: tuple[int, ...], options: Any, part: str) -> None:
    objective = build_objective({"alignment": {"network": {POOLED: {"layers": layers}}, **options}})
    with pytest.raises(ConfigError, match=r"objective\.alignment") as caught:
        objective.bind(latent, (1, 8, 8))
    assert part in str(caught.value)


def test_a_network_of_vectors_is_refused() -> None:
    objective = build_objective({"alignment": {"network": "features.pooled:Flat"}})
    with pytest.raises(ConfigError, match="height and width"):
        objective.bind((3, 4, 4), (1, 8, 8))
