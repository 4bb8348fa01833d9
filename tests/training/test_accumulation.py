"""A step in slices is the step of the batch, for all that is computed over a batch: gradients, codes and statistics."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from convae.core.errors import ConfigError
from convae.core.noise import CountedNoise
from convae.core.random import torch_generator
from convae.core.types import Batch
from convae.describe import build
from convae.model.quantizers import QUANTIZERS
from convae.model.quantizers.base import build_quantizer
from convae.objective import Losses, build_objective
from convae.objective.schedules.base import Clocks, Moment
from convae.objective.schedules.constant import Constant
from convae.training.distributed import Ranks
from convae.training.loop.numerics import StepPrecision
from convae.training.loop.step import TrainStep
from convae.training.loop.task import Update
from convae.training.optimizers.base import build_optimizer
from convae.training.recipe.plan import LearningRate
from convae.training.recipe.schema import OptimizerConfig, TrainingConfig
from convae.training.recipe.stages import default_objective

IMAGES, SIZE, STEPS = 10, 8, 3
BODY: dict[str, Any] = {
    "input": [1, SIZE, SIZE],
    "encoder": [{"conv": {"channels": 6, "stride": 2}}, "silu"],
    "decoder": [{"conv": {"channels": 6}}, "silu", {"conv-transpose": {"channels": 1, "stride": 2}}],
    "likelihood": {"gaussian": {"sigma": 0.3}},
}
VQ: dict[str, Any] = {"codes": 8, "dead_code_threshold": 0.5, "decay": 0.5}
BOTTLENECKS: dict[str, dict[str, Any]] = {
    **{name: {name: dict(QUANTIZERS.get(name).example)} for name in QUANTIZERS.names()},
    "vq vectors": {"vq": VQ},
    "vq k-means": {"vq": {**VQ, "init": "k-means", "distance": "cosine", "estimator": "rotation"}},
    "vq gradient": {"vq": {**VQ, "update": "gradient"}},
    "lfq": {"lfq": {"bits": 4, "temperature": 3.0}},
    "bsq": {"bsq": {"bits": 4, "temperature": 3.0}},
    "ibq": {"ibq": {"codes": 8, "temperature": 3.0}},
    "residual k-means": {"residual": {"levels": 3, "dropout": 0.5, "quantizer": {"vq": {**VQ, "init": "k-means"}}}},
    "residual shared": {"residual": {"levels": 3, "shared": True, "quantizer": {"vq": VQ}}},
    "residual lfq": {"residual": {"levels": 2, "quantizer": {"lfq": {"bits": 3, "temperature": 3.0}}}},
    "grouped": {"grouped": {"groups": 2, "quantizer": {"vq": VQ}}},
}


def with_codes(bottleneck: dict[str, Any]) -> dict[str, Any]:
    try:
        channels = build_quantizer(bottleneck, None).channels
    except ConfigError:
        channels = 6
    return {**BODY, "bottleneck": {"codes": {"latent": channels, "quantizer": bottleneck}}}


def layers_and_codes() -> dict[str, Any]:
    """Three quantizers in a row, each of whose initial codes decides what the next one quantizes."""
    kmeans = {**VQ, "init": "k-means"}
    return {
        **BODY,
        "encoder": [{"quantize": {"vq": {**kmeans, "codes": 4}}}, *BODY["encoder"], {"quantize": {"vq": kmeans}}],
        "bottleneck": {"vq": {**kmeans, "latent": 3}},
    }


HIERARCHY = {"preset": "ladder", "input": [1, SIZE, SIZE], "latent": 3, "size": "tiny"}
GAUSSIAN = {**BODY, "bottleneck": {"gaussian": {"latent": 3}}}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any] | None]] = {
    **{name: (with_codes(bottleneck), None) for name, bottleneck in BOTTLENECKS.items()},
    "layers": (layers_and_codes(), None),
    "vq-vae-2": ({"preset": "vq-vae-2", "input": [1, SIZE, SIZE], "channels": 8, "latent": 3, "codes": 8}, None),
    "kl balance": (HIERARCHY, {"reconstruction": 1, "kl": {"balance": True}}),
    "free bits": (HIERARCHY, {"reconstruction": 1, "free-bits": {"nats": 0.1}}),
    **{
        f"dip of {which}": (GAUSSIAN, {"reconstruction": 1, "dip": {"covariance": which}})
        for which in ("means", "latents")
    },
    "optimal gaussian": (GAUSSIAN, {"optimal-gaussian": 1, "kl": 1}),
    "free bits of one latent": (GAUSSIAN, {"reconstruction": 1, "free-bits": {"nats": 0.05, "groups": 1}}),
}


def run(
    model: dict[str, Any], terms: dict[str, Any] | None, accumulate: int, *, checkpointing: bool = False
) -> list[dict[str, Tensor]]:
    """Gradients and buffers of each of some steps, in float64."""
    made = build(model).double().train()
    made.use_checkpointing(checkpointing)
    objective = build_objective(default_objective([made]) if terms is None else terms)
    options = OptimizerConfig(lr=1e-3)

    def loss(part: Batch, noise: CountedNoise, clocks: Clocks) -> Losses:
        losses: Losses = objective(part, made(part.images, noise), clocks.training)
        return losses

    update = Update("model", made, loss, options, LearningRate(options, "optimizer"))
    step = TrainStep(
        update,
        build_optimizer("adam", made, lr=1e-3),
        StepPrecision("float32", torch.device("cpu")),
        TrainingConfig(accumulate=accumulate),
        Ranks(),
        Constant(value=1.0),
    )
    found = []
    for number in range(STEPS):
        images = torch.rand(IMAGES, 1, SIZE, SIZE, generator=torch_generator(0, number), dtype=torch.float64)
        moment = Moment(number, 0.0, 0.0)
        metrics = step(Batch.of(images), Clocks(moment, moment, moment, 100)).metrics
        gradients = {name: each.grad.clone() for name, each in made.named_parameters() if each.grad is not None}
        found.append({**gradients, **{n: b.clone() for n, b in made.named_buffers()}, "total": metrics["total"]})
    return found


def assert_equal(ones: list[dict[str, Tensor]], others: list[dict[str, Tensor]]) -> None:
    for step, (one, other) in enumerate(zip(ones, others, strict=True)):
        assert one.keys() == other.keys()
        for name, value in one.items():
            torch.testing.assert_close(other[name], value, rtol=1e-8, atol=1e-9, msg=lambda m: f"{step} {name}: {m}")  # noqa: B023


@pytest.mark.parametrize("name", CASES)
def test_gradients_and_statistics_of_slices_are_those_of_the_batch(name: str) -> None:
    model, terms = CASES[name]
    whole = run(model, terms, 1)
    assert_equal(whole, run(model, terms, 4))
    assert_equal(whole, run(model, terms, 4, checkpointing=True))


def test_codes_that_start_on_clusters_do_so_with_all_slices() -> None:
    first, *_ = run(layers_and_codes(), None, 4)
    sizes = [value for name, value in first.items() if name.endswith("cluster_size")]
    assert len(sizes) == 3
    assert all(int((own > 0).sum()) == len(own) for own in sizes)
