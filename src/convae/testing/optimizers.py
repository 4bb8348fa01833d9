"""Contract of optimizers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from convae.core.random import torch_generator
from convae.testing.entries import name_of, no_errors, require
from convae.training.loop.numerics import OptimizerState
from convae.training.optimizers import OPTIMIZERS
from convae.training.optimizers.base import build_optimizer, step_unless

STEPS, BROKEN = 24, 8
LR = 1e-2


def check_optimizer(kind: str | type[Optimizer]) -> None:
    """Checks the contract of an optimizer with its `example`.

    It lowers a loss, a skipped step changes nothing, frozen parameters do not change, and steps with a state that was
    saved and restored are those of an optimizer that never stopped, bit for bit.

    Args:
        kind: class or registered name.

    Raises:
        AssertionError: the contract is violated.
    """
    name = name_of(OPTIMIZERS, kind)
    where = f"optimizer {name}"
    example = dict(getattr(OPTIMIZERS.get(name), "example", {}))
    ways = []
    for is_broken in (False, True):
        module, losses = _module(), []
        with no_errors(where):
            optimizer = build_optimizer({name: example}, module, lr=LR, weight_decay=0.01)
        for step in range(STEPS):
            if is_broken and step == BROKEN:
                with no_errors(where):
                    state = _saved(OptimizerState(optimizer, module).state())
                optimizer = build_optimizer({name: example}, module, lr=LR, weight_decay=0.01)
                OptimizerState(optimizer, module).load_state(state)
            losses.append(_step(module, optimizer, step, where))
        ways.append((losses, [parameter.detach().clone() for parameter in module.parameters()]))
    (losses, ends), (others, other_ends) = ways
    named = zip(_module().named_parameters(), ends, strict=True)
    changed = {key: not torch.equal(start, end) for (key, start), end in named}
    require(not changed.pop("frozen"), f"{where}: changes a frozen parameter")
    still = ", ".join(key for key, has_changed in changed.items() if not has_changed)
    require(not still, f"{where}: does not change {still}")
    require(losses[-1] < losses[0], f"{where}: must lower the loss, which went from {losses[0]:g} to {losses[-1]:g}")
    advice = "Keep what changes as tensors or numbers in the state of the parameters, or as numbers in the groups"
    require(losses == others, f"{where}: gives other steps with a state that was saved and restored. {advice}")
    require(all(map(torch.equal, ends, other_ends)), f"{where}: gives other weights with a state that was restored")


def _saved(state: Mapping[str, Any]) -> dict[str, Any]:
    """A state as it is read from a checkpoint."""
    return {
        key: value.clone() if isinstance(value, Tensor) else json.loads(json.dumps(value))
        for key, value in state.items()
    }


def _module() -> nn.Module:
    """A convolution, a linear layer, an embedding, and a frozen parameter."""
    generator = torch_generator(0, "optimizer")
    module = nn.ModuleDict({"conv": nn.Conv2d(1, 3, 3), "linear": nn.Linear(12, 5), "embedding": nn.Embedding(4, 12)})
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    module.register_parameter("frozen", nn.Parameter(torch.ones(3), requires_grad=False))
    return module


def _loss(module: nn.Module) -> Tensor:
    """How far the outputs are from fixed ones."""
    images = torch.randn(8, 1, 4, 4, generator=torch_generator(1, "images"))
    wanted = torch.randn(8, 5, generator=torch_generator(1, "wanted"))
    features = F.relu(module.get_submodule("conv")(images)).flatten(1)
    return F.mse_loss(
        module.get_submodule("linear")(features + module.get_submodule("embedding")(torch.arange(8) % 4)), wanted
    )


def _step(module: nn.Module, optimizer: Optimizer, step: int, where: str) -> float:
    """A step, and one that is skipped; returns the loss before them."""
    for skipped in (False, True):
        before = {key: value.detach().clone() for key, value in module.named_parameters()}
        for group in optimizer.param_groups:
            group["lr"] = LR / (1 + step / STEPS)
        optimizer.zero_grad(set_to_none=True)
        loss = _loss(module)
        loss.backward()
        step_unless(optimizer, torch.tensor(skipped))
        changed = {key for key, value in module.named_parameters() if not torch.equal(value, before[key])}
        if skipped:
            require(not changed, f"{where}: a skipped step changes parameters")
            continue
        found = loss.item()
    return found
