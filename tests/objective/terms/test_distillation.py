"""Terms of distillation, against their formulas."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.distributions import Normal, kl_divergence

import convae
from convae.core.errors import ConfigError
from convae.core.random import torch_generator
from convae.core.types import Batch
from convae.objective.objective import build_objective

MODEL: dict[str, Any] = {
    "input": [1, 4, 4],
    "encoder": ["flatten"],
    "bottleneck": {"gaussian": {"latent": 3}},
    "decoder": [{"linear": {"features": 16}}, {"unflatten": {"to": [1, 4, 4]}}],
    "likelihood": "bernoulli",
}
IMAGES = torch.rand(5, 1, 4, 4, generator=torch_generator(0, "images"))


@pytest.mark.parametrize("distance", ["squared", "absolute"])
def test_the_distance_is_that_to_the_reconstruction_of_the_teacher(distance: str) -> None:
    student, teacher = convae.build(MODEL, seed=0), convae.build(MODEL, seed=1).eval()
    objective = build_objective({"distillation": {"distance": distance}})
    objective.bind_teacher(teacher)
    output = student(IMAGES, torch_generator(1, "noise"))
    target = teacher.decode(output.latent).mean
    difference = output.likelihood.mean - target
    expected = difference.square() if distance == "squared" else difference.abs()
    found = objective(IMAGES, output)
    torch.testing.assert_close(found.terms["distillation"], expected.flatten(1).sum(1))
    found.total.backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    measured = objective.measure(Batch.of(IMAGES), output)
    mse = difference.square().flatten(1).mean(1)
    torch.testing.assert_close(measured["psnr_to_teacher"], -10 * mse.log10())
    own = (output.likelihood.mean - IMAGES).square().flatten(1).mean(1)
    torch.testing.assert_close(measured["psnr_to_image"], -10 * own.log10())


@pytest.mark.parametrize("prior", ["standard-normal", "mixture", "flow"])
def test_the_distance_of_gaussians_is_their_divergence(prior: str) -> None:
    student, teacher = (convae.build({**MODEL, "prior": prior}, seed=seed).eval() for seed in (0, 1))
    objective = build_objective({"latent-distillation": {}})
    objective.bind_teacher(teacher)
    found = objective(IMAGES, student(IMAGES)).terms["latent-distillation"]
    p, q = teacher.encode(IMAGES), student.encode(IMAGES)
    oracle = kl_divergence(Normal(p.mean, (p.logvar / 2).exp()), Normal(q.mean, (q.logvar / 2).exp())).sum(1)
    torch.testing.assert_close(found, oracle)


@pytest.mark.parametrize(
    "bottleneck",
    [
        {"gaussian": {"latent": 3, "covariance": "full"}},
        {"gaussian": {"latent": 3, "flow": "planar"}},
        {"von-mises-fisher": {"latent": 3}},
    ],
    ids=["full", "flow", "sphere"],
)
def test_posteriors_of_which_only_the_means_would_be_compared_are_refused(bottleneck: object) -> None:
    teacher = convae.build({**MODEL, "bottleneck": bottleneck})
    with pytest.raises(ConfigError, match=r"objective\.latent-distillation: .*spread"):
        build_objective({"latent-distillation": {}}).bind_teacher(teacher)
    build_objective({"distillation": {}}).bind_teacher(teacher)


def test_without_a_teacher_the_term_says_what_to_do() -> None:
    model = convae.build(MODEL)
    with pytest.raises(ConfigError, match=r"objective\.distillation: .*convae distill"):
        build_objective({"distillation": {}})(IMAGES, model(IMAGES))
    other = convae.build({**MODEL, "bottleneck": {"gaussian": {"latent": 2}}})
    objective = build_objective({"distillation": {}})
    objective.bind(model.latent_shape, model.input_shape)
    with pytest.raises(ConfigError, match=r"objective\.distillation: .*latents"):
        objective.bind_teacher(other)
