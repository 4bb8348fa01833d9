"""Fused Adam takes the steps of torch's."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from convae.training.optimizers._fused_adam import FusedAdam


@pytest.mark.parametrize("is_adamw", [False, True])
def test_steps_are_those_of_torch_bit_for_bit(is_adamw: bool) -> None:
    kind = torch.optim.AdamW if is_adamw else torch.optim.Adam
    parameters = [[nn.Parameter(torch.ones(3, 2)), nn.Parameter(torch.ones(5))] for _ in range(2)]
    own = FusedAdam(
        [{"params": [parameters[0][0]], "weight_decay": 0.1}, {"params": [parameters[0][1]], "weight_decay": 0.0}],
        lr=0.01,
        betas=(0.8, 0.95),
        decoupled_weight_decay=is_adamw,
    )
    torchs = kind(
        [{"params": [parameters[1][0]], "weight_decay": 0.1}, {"params": [parameters[1][1]], "weight_decay": 0.0}],
        lr=0.01,
        betas=(0.8, 0.95),
        fused=True,
    )
    generator = torch.Generator().manual_seed(0)
    for step in range(6):
        gradients = [torch.randn(value.shape, generator=generator) for value in parameters[0]]
        for optimizer, values in ((own, parameters[0]), (torchs, parameters[1])):
            for group in optimizer.param_groups:
                group["lr"] = 0.01 / (step + 1)
            optimizer.found_inf = torch.tensor(float(step == 3))  # type: ignore[attr-defined]
            optimizer.zero_grad(set_to_none=True)
            assert all(value.grad is None for value in values)
            for value, gradient in zip(values, gradients, strict=True):
                value.grad = None if step == 4 and value.ndim == 1 else gradient.clone()
            optimizer.step()
    for one, other in zip(*parameters, strict=True):
        assert torch.equal(one, other)
        states = own.state[one], torchs.state[other]
        assert states[0].keys() == states[1].keys()
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
