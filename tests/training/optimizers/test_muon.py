"""Muon takes the steps of torch's for matrices, and those of AdamW for all else."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import convae
from convae.core.errors import ConfigError
from convae.training.optimizers.adamw import AdamW
from convae.training.optimizers.base import build_optimizer
from convae.training.optimizers.muon import Muon, orthogonalize


def gradients(*shapes: tuple[int, ...], steps: int = 6) -> list[list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [[torch.randn(shape, generator=generator) for shape in shapes] for _ in range(steps)]


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4)])
def test_matrices_take_the_steps_of_torch(shape: tuple[int, int]) -> None:
    own, torchs = (nn.Parameter(torch.ones(shape)) for _ in range(2))
    ours = Muon([{"params": [own], "weight_decay": 0.1, "are_matrices": True}], 0.02)
    theirs = torch.optim.Muon(
        [torchs], lr=0.02, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw", nesterov=True
    )
    for (gradient,) in gradients(shape):
        own.grad, torchs.grad = gradient.clone(), gradient.clone()
        ours.step()
        theirs.step()
        # torch iterates in bf16, whose rounding is 2⁻⁸ of a step.
        torch.testing.assert_close(own, torchs, atol=6 * 0.02 * 0.02, rtol=0)


@pytest.mark.parametrize("shape", [(5, 40), (40, 5), (1, 7)])
def test_singular_values_are_near_one_and_vectors_stay(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    values = left.T @ orthogonalize(matrix) @ right.T
    assert values.diagonal().min() > 0.6
    assert values.diagonal().max() < 1.3
    torch.testing.assert_close(values, values.diagonal().diag(), atol=1e-6, rtol=0)


def test_sharded_weights_are_refused() -> None:
    weight = nn.Parameter(torch.ones(3, 4))
    weight.full_tensor = lambda: weight  # type: ignore[attr-defined]  # as those of FSDP2 have it
    with pytest.raises(ConfigError, match=r"training\.shard: false"):
        Muon([{"params": [weight], "weight_decay": 0.0, "are_matrices": True}], 0.1)


def test_a_gradient_of_zeros_moves_nothing() -> None:
    weight = nn.Parameter(torch.ones(3, 4))
    weight.grad = torch.zeros(3, 4)
    Muon([{"params": [weight], "weight_decay": 0.0, "are_matrices": True}], 0.1).step()
    assert torch.equal(weight, torch.ones(3, 4))


def test_weights_of_layers_are_matrices_and_embeddings_and_codebooks_are_not() -> None:
    model = convae.build(
        {
            "input": [1, 8, 8],
            "encoder": [
                {"conv": {"channels": 4, "stride": 2}},
                "batch-norm",
                {"attention": {"heads": 2, "norm": {"group-norm": {"groups": 4}}}},
            ],
            "bottleneck": {"vq": {"codes": 8, "latent": 4, "update": "gradient"}},
            "decoder": [{"conv-transpose": {"channels": 1, "stride": 2}}],
            "condition": {"classes": 3},
        }
    )
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = build_optimizer("muon", model, lr=0.1).param_groups
    found = {names[id(each)] for group in groups if group["are_matrices"] for each in group["params"]}
    others = {name for name, value in model.named_parameters() if value.ndim > 1} - found
    assert {"encoder.0.weight", "decoder.0.weight"} < found
    assert others == {"bottleneck.quantizer.codebook", "condition.weight"}


def test_embeddings_and_biases_take_the_steps_of_adamw() -> None:
    def module() -> nn.ModuleDict:
        torch.manual_seed(0)
        return nn.ModuleDict({"conv": nn.Conv2d(1, 2, 3), "embedding": nn.Embedding(5, 4)})

    def train(name: str) -> dict[str, torch.Tensor]:
        trained = module()
        optimizer = build_optimizer(name, trained, lr=0.01, weight_decay=0.1)
        named = dict(trained.named_parameters())
        for found in gradients(*(tuple(value.shape) for value in named.values())):
            for value, gradient in zip(named.values(), found, strict=True):
                value.grad = gradient
            optimizer.step()
        return {key: value.detach() for key, value in named.items()}

    muon, adamw = train("muon"), train("adamw")
    assert [key for key in muon if not torch.equal(muon[key], adamw[key])] == ["conv.weight"]


def test_a_step_of_a_convolution_is_as_large_as_that_of_adam() -> None:
    steps = {}
    for kind, options in ((Muon, {"are_matrices": True}), (AdamW, {})):
        weight = nn.Parameter(torch.zeros(32, 16, 3, 3))
        group: dict[str, Any] = {"params": [weight], "weight_decay": 0.0, **options}
        optimizer = kind([group], 1e-3)
        (((gradient,),)) = gradients((32, 16, 3, 3), steps=1)
        weight.grad = gradient
        optimizer.step()
        steps[kind] = float(weight.detach().square().mean().sqrt())
    assert 0.1 < steps[Muon] / steps[AdamW] < 0.3  # of a first step of Adam, in which each value moves by the rate
