"""Each term with each bottleneck, likelihoods and precisions in turn, either trains or is refused with a reason."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch

import convae
from convae.core.errors import ConfigError, ConvaeError, ShapeError
from convae.core.random import torch_generator
from convae.core.types import Batch
from convae.model.bottlenecks import BOTTLENECKS
from convae.model.likelihoods import LIKELIHOODS
from convae.model.mirror import raw_channels
from convae.model.vae import VAE
from convae.objective.objective import build_objective
from convae.objective.schedules.base import Moment
from convae.objective.terms import TERMS
from convae.training.loop.numerics import HALVES, StepPrecision

STEPS = 5
END = Moment(100, 10.0, 1.0)
INPUT = (1, 12, 12)
FEATURES = (4, 6, 6)
CONSTANT = "the KL divergence of codes is constant"
NOT_REPORTED = "no quantizer of the model has it"
ONE_GAUSSIAN = "needs a model with one latent, with a diagonal Gaussian posterior"
OF_GAUSSIANS = ("total-correlation", "mutual-information", "dimension-kl")
OF_POSTERIORS = ("kl", "free-bits", "capacity", "importance-weighted", "dip", *OF_GAUSSIANS)
REFUSED: dict[tuple[str, str | None], str] = {
    ("classification", None): "the model has no classifier. Add model.classifier",
    **{(name, "codes"): CONSTANT for name in (*OF_POSTERIORS, "mmd", "factor", "latent-adversarial", "contractive")},
    **{(name, "deterministic"): "a deterministic latent has no KL divergence" for name in OF_POSTERIORS},
    **{(name, "von-mises-fisher"): ONE_GAUSSIAN for name in (*OF_GAUSSIANS, "dip")},
    ("latent-norm", "von-mises-fisher"): "the norm of latents on a sphere is constant",
    ("free-bits", "von-mises-fisher"): "needs a posterior whose KL divergence is a sum over latent values",
    **{("commitment", name): NOT_REPORTED for name in ("gaussian", "deterministic", "von-mises-fisher")},
    ("codebook", None): NOT_REPORTED,
    ("entropy", None): NOT_REPORTED,
    **{(name, None): "needs a teacher" for name in ("distillation", "latent-distillation")},
    **{(name, "von-mises-fisher"): "needs a model with one latent map" for name in ("equivariance", "alignment")},
}
"""Why a term cannot judge models of a bottleneck, or, with None, any of these models."""
OPTIONS: dict[str, dict[str, Any]] = {"equivariance": {"least_scale": 1}}  # the decoder has one size


def model(likelihood: str, bottleneck: str) -> VAE:
    """A small model of a likelihood and a bottleneck."""
    kind = BOTTLENECKS.get(bottleneck)
    head: dict[str, dict[str, Any] | None] = {likelihood: dict(LIKELIHOODS.get(likelihood).example)}
    encoder: list[Any] = [{"conv": {"channels": FEATURES[0], "stride": 2}}, "silu"]
    try:
        latent = kind(FEATURES, **kind.example).latent_shape
    except ShapeError:  # for vectors only
        encoder.append("flatten")
        latent = kind((math.prod(FEATURES),), **kind.example).latent_shape
    raw = (raw_channels(head, INPUT), *INPUT[1:])
    decoder: list[Any] = ["flatten"] if len(latent) > 1 else []
    decoder += [{"linear": {"features": math.prod(raw)}}, {"unflatten": {"to": list(raw)}}]
    return convae.build(
        {
            "input": list(INPUT),
            "encoder": encoder,
            "bottleneck": {bottleneck: dict(kind.example)},
            "decoder": decoder,
            "likelihood": head,
        }
    )


def _combinations() -> list[tuple[str, str, str, str]]:
    """Each bottleneck with each term; each precision with each bottleneck, term and likelihood; the others in turn."""
    bottlenecks, likelihoods = itertools.cycle(BOTTLENECKS.names()), itertools.cycle(LIKELIHOODS.names())
    found = [("float32", one, name, next(likelihoods)) for name in TERMS.names() for one in BOTTLENECKS.names()]
    trained = [name for name in TERMS.names() if (name, None) not in REFUSED]
    for precision in ("float32", *HALVES):
        found += [(precision, one, "reconstruction", next(likelihoods)) for one in BOTTLENECKS.names()]
        found += [(precision, next(bottlenecks), "reconstruction", one) for one in LIKELIHOODS.names()]
        for name in trained if precision != "float32" else ():
            one = next(one for one in bottlenecks if (name, one) not in REFUSED)
            found.append((precision, one, name, next(likelihoods)))
    return found


@pytest.mark.parametrize(("precision", "bottleneck", "name", "likelihood"), dict.fromkeys(_combinations()))
def test_steps_have_a_finite_and_falling_loss(precision: str, bottleneck: str, name: str, likelihood: str) -> None:
    computes = StepPrecision(precision, torch.device("cpu"))
    reason = REFUSED.get((name, bottleneck)) or REFUSED.get((name, None))
    trained = model(likelihood, bottleneck)
    others = {each: {**TERMS.get(each).example, "weight": 0} for each in TERMS.get(name).required_terms}
    made = build_objective({name: {**TERMS.get(name).example, **OPTIONS.get(name, {})}, **others})
    optimizer = torch.optim.Adam(trained.parameters(), lr=3e-3)
    images = torch.nn.functional.avg_pool2d(torch.rand(8, *INPUT, generator=torch_generator(0, "images")), 3, 1, 1)
    batch = Batch.of(images, torch.arange(8) % 3 - 1)
    totals = []
    for _ in range(2 * STEPS if name == "alignment" else STEPS):  # which quantized features follow late
        with computes.compute():
            # The same noise and moment in each step, so that the loss falls by the weights alone.
            output = trained(batch.images, torch_generator(0, "noise"), samples=made.samples)
            try:
                made.bind(trained.latent_shape, trained.input_shape)
                losses = made(batch, output, END)
            except ConvaeError as error:
                assert isinstance(error, ConfigError)
                assert reason is not None
                assert str(error).startswith(f"objective.{name}: {reason}")
                return
        assert reason is None
        assert losses.terms[name].isfinite().all()
        optimizer.zero_grad()
        losses.total.backward()
        for key, parameter in trained.named_parameters():
            assert parameter.grad is None or parameter.grad.isfinite().all(), key
        optimizer.step()
        totals.append(losses.total.item())
    if (name, bottleneck) == ("latent-norm", "von-mises-fisher"):
        assert totals == pytest.approx([0.5] * STEPS)  # of unit vectors
    else:
        assert totals[-1] < totals[0]
