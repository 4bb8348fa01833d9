"""Terms with a discriminator on the latent: what it learns, its own optimizer, and an exact resume."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from training.runs import RECIPE, StopAt, content

import convae
from convae.core.errors import ConfigError
from convae.core.output import ModelCalls, Output
from convae.core.posterior import GaussianPosterior
from convae.core.random import torch_generator
from convae.model.likelihoods.gaussian import GaussianLikelihood
from convae.objective.objective import START
from convae.objective.terms.base import LossInputs, Term
from convae.objective.terms.factor import Factor
from convae.objective.terms.latent_adversarial import LatentAdversarial
from convae.training import resume, train
from convae.training.loop.checkpoint import list_checkpoints, read_checkpoint

OPTIONS: dict[str, Any] = {"width": 16, "layers": 2, "lr": 5e-3}
SMALL = {**RECIPE["training"], "epochs": 2, "ema": 0.9}


def recipe(name: str) -> dict[str, Any]:
    terms = {"reconstruction": {}, name: {"weight": 2.0, **OPTIONS}}
    return {**RECIPE, "objective": terms | ({"kl": {}} if name == "factor" else {}), "training": SMALL}


def passed(z: torch.Tensor, step: int) -> LossInputs:
    """A pass with given latents; the prior is the standard normal."""
    images = z.new_zeros(len(z), 1, 1, 1)

    def noise(_: str) -> torch.Generator:
        return torch_generator(step, "noise")

    def sample_prior() -> torch.Tensor:
        return torch.randn(z.shape, generator=torch_generator(step, "prior"), dtype=z.dtype)

    def refused(*_: Any) -> Any:
        raise NotImplementedError

    calls = ModelCalls(refused, refused, sample_prior, refused, noise, images, refused)
    posterior = GaussianPosterior(z, torch.zeros_like(z))
    output = Output(posterior, z, GaussianLikelihood(images, images.new_zeros(())), calls=calls)
    return LossInputs(images, None, output, START)


def trained(term: Term, draw: Any, steps: int = 400) -> Term:
    """The term with a trained discriminator, for latents that `draw` gives."""
    term.bind((2,), (1, 8, 8))
    assert term.critic is not None
    optimizer = torch.optim.Adam(term.critic.parameters(), 5e-3)
    for step in range(steps):
        optimizer.zero_grad()
        term.critic.loss(passed(draw(step, 256), step)).mean().backward()
        optimizer.step()
    return term


def correlated(step: int, count: int) -> torch.Tensor:
    """Pairs of standard normal values with correlation 0.9."""
    a, b = torch.randn(2, count, generator=torch_generator(step, "z"))
    return torch.stack([a, 0.9 * a + math.sqrt(1 - 0.81) * b], 1)


def test_the_discriminator_of_factor_estimates_the_total_correlation() -> None:
    term = trained(Factor(**OPTIONS), correlated)
    with torch.no_grad():
        found = float(term(passed(correlated(10_000, 20_000), 0)).mean())
    assert found == pytest.approx(-0.5 * math.log(1 - 0.81), abs=0.12)


def test_the_discriminator_of_the_adversarial_autoencoder_estimates_the_density_ratio() -> None:
    term = trained(LatentAdversarial(**OPTIONS), lambda step, count: correlated(step, count) + 1)
    z = correlated(10_000, 20_000) + 1
    covariance = torch.tensor([[1.0, 0.9], [0.9, 1.0]])
    q = torch.distributions.MultivariateNormal(torch.ones(2), covariance)
    prior = torch.distributions.MultivariateNormal(torch.zeros(2), torch.eye(2))
    ratio = prior.log_prob(z) - q.log_prob(z)
    with torch.no_grad():
        found = float(term(passed(z, 0)).mean())
    assert found == pytest.approx(float(F.softplus(-ratio).mean()), rel=0.1)


@pytest.mark.parametrize("name", ["factor", "latent-adversarial"])
def test_it_has_an_optimizer_of_its_own_and_survives_a_stop(name: str, tmp_path: Path) -> None:
    run = train(recipe(name), out=tmp_path / "unbroken")
    last = read_checkpoint(list_checkpoints(run.path / "checkpoints")[-1])
    weight = last.tensors[f"{name}.network.0.weight"]
    assert weight.shape == (16, 3)
    new = {"factor": Factor, "latent-adversarial": LatentAdversarial}[name](**OPTIONS)
    new.bind((3,), (1, 8, 8))
    assert new.critic is not None
    assert not torch.equal(weight, next(new.critic.parameters()))
    assert {f"optimizer_{name}", "optimizer"} <= last.values.keys()
    rows = [row for row in run.metrics if row["split"] == "train"]
    assert all(math.isfinite(row[f"{name}_critic"]) for row in rows)
    train(recipe(name), out=tmp_path / "run", callback=StopAt(5))
    resume(tmp_path / "run")
    assert content(tmp_path / "run") == content(tmp_path / "unbroken")


def test_the_learning_rate_of_the_discriminator_is_its_own(tmp_path: Path) -> None:
    fast, slow = (
        train(
            {
                **recipe("factor"),
                "objective": {"reconstruction": {}, "kl": {}, "factor": {**OPTIONS, "lr": lr, "weight": 0}},
            },
            out=tmp_path / f"{lr}",
        )
        for lr in (1e-2, 1e-4)
    )
    # The model is the same, as the weight is 0; the discriminators are not.
    for mine, other in zip(fast.last.state_dict().values(), slow.last.state_dict().values(), strict=True):
        assert torch.equal(mine, other)
    moved = []
    for run in (fast, slow):
        term = Factor(**OPTIONS)
        term.bind((3,), (1, 8, 8))
        assert term.critic is not None
        found = read_checkpoint(list_checkpoints(run.path / "checkpoints")[-1]).tensors["factor.network.0.weight"]
        moved.append(float((found - next(term.critic.parameters()).detach()).abs().mean()))
    assert moved[0] > 20 * moved[1] > 0


def test_an_objective_that_is_not_bound_says_so() -> None:
    model = convae.build({**RECIPE["model"], "likelihood": "gaussian"})
    objective = convae.build_objective({"factor": {}})
    images = torch.rand(3, 1, 8, 8)
    with pytest.raises(ConfigError, match=r"objective\.factor: .*bind"):
        objective(images, model(images))
    objective.bind(model.latent_shape, model.input_shape)
    assert objective(images, model(images)).total.isfinite()
