"""The adversarial stage: what its gradients are, an exact resume, and the known faults of other implementations."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F
from training.runs import RECIPE, StopAt, content

import convae
from convae.core.errors import ShapeError
from convae.core.noise import CountedNoise
from convae.core.random import torch_generator
from convae.core.types import Batch
from convae.model.vae import VAE
from convae.objective import Clocks, Losses, LossInputs, Moment, Objective, build_objective
from convae.objective.schedules.constant import Constant
from convae.objective.terms._image_critic import ImageCritic
from convae.objective.terms.adversarial import Adversarial
from convae.training import resume, train
from convae.training.distributed import Ranks
from convae.training.loop.checkpoint import list_checkpoints, read_checkpoint
from convae.training.loop.numerics import StepPrecision
from convae.training.loop.step import TrainStep
from convae.training.loop.task import Update
from convae.training.optimizers.base import build_optimizer
from convae.training.recipe.plan import LearningRate
from convae.training.recipe.schema import OptimizerConfig, TrainingConfig

PATCH: dict[str, Any] = {"patch": {"channels": 4, "layers": 1}}
ACTNORM: dict[str, Any] = {"patch": {"channels": 4, "layers": 1, "norm": "actnorm"}}
EVERYTHING: dict[str, Any] = {
    "discriminator": {"multiscale": {"scales": 1, "each": PATCH}},
    "r1": 0.3,
    "r2": 0.2,
    "penalty_every": 2,
    "lecam": 0.1,
    "augment": ["color", "translation", "cutout"],
    "fakes": "both",
    "weight": 0.5,
}
MODEL: dict[str, Any] = {**RECIPE["model"], "encoder": ["flatten"]}
SMALL = {**RECIPE["training"], "epochs": 2, "ema": 0.9}


def recipe(**options: Any) -> dict[str, Any]:
    terms = {"reconstruction": {}, "kl": {}, "adversarial": {"discriminator": PATCH, **options}}
    return {**RECIPE, "objective": terms, "training": SMALL}


def made(*others: str, **options: Any) -> tuple[VAE, Objective, Adversarial, ImageCritic]:
    model = convae.build(MODEL, seed=1).double()
    terms: dict[str, Any] = dict.fromkeys(("reconstruction", "kl", *others), 1)
    objective = build_objective({**terms, "adversarial": {"discriminator": PATCH, **options}})
    objective.bind(model.latent_shape, model.input_shape)
    term = objective.terms["adversarial"]
    assert isinstance(term, Adversarial)
    critic = term.critic
    assert isinstance(critic, ImageCritic)
    critic.double()
    return model, objective, term, critic


def images(step: int, count: int = 12) -> Tensor:
    return torch.rand(count, 1, 8, 8, generator=torch_generator(0, step), dtype=torch.float64)


def test_the_model_learns_and_the_discriminator_does_not_in_the_models_loss() -> None:
    model, objective, _, critic = made(adaptive=False)
    x = images(0)
    objective(x, model(x, torch_generator(0))).total.backward()
    assert all(each.grad is None for each in critic.parameters())
    assert all(each.requires_grad for each in critic.parameters())
    assert all(each.grad is not None and each.grad.any() for each in model.decoder.parameters())


def test_the_discriminator_sees_detached_reconstructions() -> None:
    model, _, _, critic = made()
    x = images(0)
    critic.loss(LossInputs(x, None, model(x, torch_generator(0)), Moment(0, 0.0, 0.0))).mean().backward()
    assert all(each.grad is None for each in model.parameters())
    assert all(each.grad is not None and each.grad.any() for each in critic.parameters())


def gradients(model: VAE, objective: Objective, x: Tensor) -> tuple[Tensor, ...]:
    output = model(x, torch_generator(0))
    assert output.calls is not None
    found: tuple[Tensor, ...] = torch.autograd.grad(objective(x, output).total, [output.calls.raw])
    return found


@pytest.mark.parametrize(("weight", "max_ratio"), [(1.0, 1e9), (0.3, 1e9), (1.0, 2.0)])
def test_the_adaptive_gradient_is_as_large_as_that_of_all_other_terms(weight: float, max_ratio: float) -> None:
    model, objective, _, critic = made(weight=weight, max_ratio=max_ratio)
    plain = build_objective({"reconstruction": 1, "kl": 1})
    x = images(0)
    (others,) = gradients(model, plain, x)
    # In the first step the factor is not known, and the term has no gradient.
    (first,) = gradients(model, objective, x)
    torch.testing.assert_close(first, others)
    (second,) = gradients(model, objective, x)
    own = second - others
    ratio = float(others.norm() / _unweighted(model, critic, x).norm())
    assert float(own.norm() / others.norm()) == pytest.approx(weight * min(1, max_ratio / ratio), rel=1e-6)
    assert float(critic.ratio) == pytest.approx(min(ratio, max_ratio), rel=1e-6)


def _unweighted(model: VAE, critic: ImageCritic, x: Tensor) -> Tensor:
    output = model(x, torch_generator(0))
    assert output.calls is not None
    (logits,) = critic(output.likelihood.mean)
    (found,) = torch.autograd.grad(-logits.mean(), [output.calls.raw])
    return found


@pytest.mark.parametrize("loss", ["hinge", "non-saturating", "minimax", "relativistic"])
def test_the_losses_are_those_of_the_papers(loss: str) -> None:
    model, _, term, critic = made(loss=loss, adaptive=False)
    x = images(0)
    output = model(x, torch_generator(0))
    inputs = LossInputs(x, None, output, Moment(1, 0.0, 0.0))
    ((real,), (fake,)) = critic(x), critic(output.likelihood.mean)
    wanted, wanted_of_critic = {
        "hinge": (-fake, 0.5 * ((1 - real).clamp_min(0) + (1 + fake).clamp_min(0))),
        "non-saturating": (-F.logsigmoid(fake), -F.logsigmoid(real) - torch.log1p(-fake.sigmoid())),
        "minimax": (torch.log1p(-fake.sigmoid()), -F.logsigmoid(real) - torch.log1p(-fake.sigmoid())),
        "relativistic": (-F.logsigmoid(fake - real), -F.logsigmoid(real - fake)),
    }[loss]
    torch.testing.assert_close(term(inputs), wanted.mean(1))
    torch.testing.assert_close(critic.loss(inputs), wanted_of_critic.mean(1))


def test_penalties_are_squared_gradients_and_distances_to_running_means() -> None:
    model, _, _, critic = made(r1=3.0, lecam=0.7, penalty_every=4)
    x = images(0)
    critic.logits.copy_(torch.tensor([0.4, -0.3]))
    held = critic.logits.clone()
    output = model(x, torch_generator(0))
    real, fake = critic(x)[0], critic(output.likelihood.mean)[0]
    hinge = 0.5 * (F.relu(1 - real) + F.relu(1 + fake)).mean(1)
    lecam = (real - held[1]).square().mean(1) + (held[0] - fake).square().mean(1)
    jacobian = torch.autograd.functional.jacobian(lambda image: critic(image)[0].mean(1).sum(), x)
    assert isinstance(jacobian, Tensor)
    r1 = 0.5 * 3.0 * jacobian.flatten(1).square().sum(1)
    for step, wanted in ((8, hinge + 0.7 * lecam + 4 * r1), (9, hinge + 0.7 * lecam)):
        critic.logits.copy_(held)
        found = critic.loss(LossInputs(x, None, output, Moment(step, 0.0, 0.0)))
        torch.testing.assert_close(found, wanted, msg=str(step))


def steps(accumulate: int, discriminator: dict[str, Any]) -> list[dict[str, Tensor]]:
    """Gradients, statistics and totals of model and discriminator in each of some steps, in float64."""
    model, objective, _, critic = made("feature-matching", **{**EVERYTHING, "discriminator": discriminator})
    model.train()
    options = OptimizerConfig(lr=1e-3)

    def loss(part: Batch, noise: CountedNoise, clocks: Clocks) -> Losses:
        found: Losses = objective(part, model(part.images, noise), clocks.training)
        return found

    def critic_loss(part: Batch, noise: CountedNoise, clocks: Clocks) -> Losses:
        with torch.no_grad():
            output = model(part.images, noise)
        values = critic.loss(LossInputs(part.images, None, output, clocks.training))
        return Losses(values.mean(), {})

    updates = [
        TrainStep(
            Update(name, module, own, options, LearningRate(options, "optimizer")),
            build_optimizer("adam", module, lr=1e-3),
            StepPrecision("float32", torch.device("cpu")),
            TrainingConfig(accumulate=accumulate),
            Ranks(),
            Constant(value=1.0),
        )
        for name, module, own in (("model", model, loss), ("critic", critic, critic_loss))
    ]
    found = []
    for number in range(4):
        moment = Moment(number, 0.0, 0.0)
        for update in updates:
            total = update(Batch.of(images(number)), Clocks(moment, moment, moment, 100)).metrics["total"]
            module = update.update.module
            state = {f"{name} gradient": p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
            found.append({**state, **{n: b.clone() for n, b in module.named_buffers()}, "total": total})
    return found


@pytest.mark.parametrize("discriminator", [EVERYTHING["discriminator"], ACTNORM], ids=["spectral", "actnorm"])
def test_accumulation_changes_nothing(discriminator: dict[str, Any]) -> None:
    for one, other in zip(steps(1, discriminator), steps(3, discriminator), strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            torch.testing.assert_close(other[name], value, rtol=1e-7, atol=1e-9, msg=name)


def test_it_survives_a_stop_with_its_discriminator(tmp_path: Path) -> None:
    run = train(recipe(**EVERYTHING), out=tmp_path / "unbroken")
    last = read_checkpoint(list_checkpoints(run.path / "checkpoints")[-1])
    fresh = made(**EVERYTHING)[3].state_dict()
    saved = {name.removeprefix("adversarial."): own for name, own in last.tensors.items() if "adversarial." in name}
    weights = [name for name in fresh if name.endswith("original")]
    assert weights
    assert all(not torch.equal(saved[name].double(), fresh[name]) for name in weights)
    assert all(tensor.dtype != torch.bfloat16 for tensor in saved.values())
    assert float(saved["steps"]) == run.metrics[-1]["step"]
    rows = [row for row in run.metrics if row["split"] == "train"]
    assert all(math.isfinite(row[f"adversarial_{key}"]) for row in rows for key in ("critic", "accuracy", "ratio"))
    train(recipe(**EVERYTHING), out=tmp_path / "run", callback=StopAt(5))
    resume(tmp_path / "run")
    assert content(tmp_path / "run") == content(tmp_path / "unbroken")


def test_with_weight_0_the_discriminator_warms_up_and_the_model_is_that_without(tmp_path: Path) -> None:
    one = train(recipe(weight=0, adaptive=False), out=tmp_path / "with")
    plain = {**recipe(), "objective": {"reconstruction": {}, "kl": {}}}
    two = train(plain, out=tmp_path / "without")
    for name, value in one.last.state_dict().items():
        assert torch.equal(value, two.last.state_dict()[name]), name
    accuracy = [row["adversarial_accuracy"] for row in one.metrics if row["split"] == "train"]
    assert accuracy[-1] > max(0.51, accuracy[0])


def test_the_curves_show_how_the_discriminator_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr("convae.training.loop.log.save", lambda figure, _: drawn.append(figure))
    run = train({**recipe(), "training": {**SMALL, "pictures_every": 1}}, out=tmp_path / "run")
    panels = {axes.get_title(): axes for axes in drawn[-1].axes}
    for key in ("accuracy", "ratio"):
        name = f"adversarial_{key}"
        line = panels[name].lines[0]
        logged = [row[name] for row in run.metrics if row["split"] == "train"]
        np.testing.assert_allclose(np.asarray(line.get_ydata()), logged)
        assert panels[name].get_ylabel()


def staged(*weights: Any, **changed: Any) -> dict[str, Any]:
    """A recipe whose stages differ in the weight of the term; the last one in other options too."""
    terms = [{"discriminator": PATCH, "weight": weight} for weight in weights]
    terms[-1] |= changed
    stages = [{"steps": 4}, *({"steps": 4, "objective": {"adversarial": term}} for term in terms)]
    training = {**SMALL, "epochs": None, "ema": None}
    return {**RECIPE, "objective": {"reconstruction": {}, "kl": {}}, "training": training, "stages": stages}


def test_stages_of_different_weight_train_one_discriminator(tmp_path: Path) -> None:
    written = staged(0, {"linear": {"end": 0.5, "steps": 4}})
    run = train(written, out=tmp_path / "unbroken")
    last = read_checkpoint(list_checkpoints(run.path / "checkpoints")[-1])
    assert float(last.tensors["adversarial.steps"]) == 8
    assert not any(name.startswith("adversarial 2") for name in last.tensors)
    train(written, out=tmp_path / "run", callback=StopAt(9))
    resume(tmp_path / "run")
    assert content(tmp_path / "run") == content(tmp_path / "unbroken")


@pytest.mark.parametrize(("weight", "worsens"), [(0.5, False), (30, True)])
def test_reconstructions_do_not_worsen_when_the_term_enters(weight: float, worsens: bool, tmp_path: Path) -> None:
    written = staged(0, {"linear": {"end": weight, "steps": 16}})
    for stage, steps in zip(written["stages"], (48, 16, 24), strict=True):
        stage["steps"] = steps
    written["objective"] = {"squared-error": {"weight": 50}, "kl": {}}
    # At a constant rate, as a falling one would hide a jump.
    written["training"]["optimizer"] = {"lr": 3e-3, "schedule": "constant"}
    run = train(written, out=tmp_path / "run")
    errors = [(row["step"], row["squared-error"]) for row in run.metrics if row["split"] == "validation"]
    before = min(error for step, error in errors if step <= 64)
    assert (max(error for step, error in errors if step > 64) > 1.2 * before) == worsens


def test_a_stage_with_other_options_begins_a_discriminator(tmp_path: Path) -> None:
    run = train(staged(0, 1, loss="relativistic"), out=tmp_path / "run")
    last = read_checkpoint(list_checkpoints(run.path / "checkpoints")[-1])
    assert [float(last.tensors[f"{name}.steps"]) for name in ("adversarial", "adversarial 2")] == [4, 4]


def test_images_that_are_too_small_are_refused_with_the_largest_depth() -> None:
    with pytest.raises(ShapeError, match=r"objective\.adversarial: .*8×8.* at most 1"):
        made(discriminator={"patch": {"layers": 2}})


def test_a_paused_discriminator_gets_no_gradient() -> None:
    model, _, _, critic = made(pause_above=0.8)
    x = images(0)
    for accuracy, is_paused in ((0.7, False), (0.9, True)):
        critic.accuracy.fill_(accuracy)
        critic.zero_grad()
        critic.loss(LossInputs(x, None, model(x), Moment(0, 0.0, 0.0))).mean().backward()
        assert all(bool(each.grad is not None and each.grad.any()) != is_paused for each in critic.parameters())


def test_a_discriminator_that_wins_or_loses_is_named() -> None:
    _, _, _, critic = made()
    for steps_done, accuracy, word in ((100, 1.0, None), (600, 0.8, None), (600, 0.995, "100%"), (600, 0.5, "50%")):
        critic.steps.fill_(steps_done)
        critic.accuracy.fill_(accuracy)
        warning = critic.warning()
        assert (warning is None) == (word is None)
        assert word is None or word in (warning or "")
