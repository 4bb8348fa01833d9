"""Optimizers by name: those of convae and of torch, their options, and runs that are resumed with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from training.runs import RECIPE, StopAt, content

from convae.core.errors import ConfigError
from convae.training import resume, train
from convae.training.optimizers.base import build_optimizer, parse_optimizer, step_unless


@pytest.mark.parametrize(
    ("written", "parts"),
    [
        ("adma", ["o.name: unknown optimizer", "'adam'"]),
        ("torch.optim.NAdam", ["o.name", "torch.optim:NAdam"]),
        ({"adam": {"beta": [0.5, 0.9]}}, ["o.name.adam", "betas"]),
        ({"adam": {"betas": [0.5, 1.0]}}, ["o.name.adam", "betas"]),
        ({"sgd": {"momentum": 0, "nesterov": True}}, ["nesterov", "momentum: 0.9"]),
        ({"torch.optim:NAdam": {"momentum_deca": 0.1}}, ["momentum_decay"]),
        ({"torch.optim:NAdam": {"lr": 0.1}}, ["o.name.torch.optim:NAdam.lr", "Set o.lr"]),
        ({"torch.optim:NAdam": {"betas": [2, 3]}}, ["o.name.torch.optim:NAdam", "2"]),
        ("torch.optim:LBFGS", ["LBFGS", "several times"]),
        ("torch.nn:Linear", ["must be a subclass"]),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(written: Any, parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        build_optimizer(written, nn.Linear(2, 2), lr=0.1, where="o")
    assert "\n" not in str(caught.value)
    assert all(part in str(caught.value) for part in parts), caught.value


def test_a_recipe_with_an_unknown_optimizer_is_refused_before_the_training(tmp_path: Path) -> None:
    recipe = {**RECIPE, "training": {**RECIPE["training"], "optimizer": {"name": "sdg"}}}
    with pytest.raises(ConfigError, match="'sgd'"):
        train(recipe, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_options_have_the_defaults_of_the_signature() -> None:
    assert parse_optimizer("adam", "o")[1] == {"betas": (0.9, 0.999)}
    assert parse_optimizer({"sgd": {"nesterov": True}}, "o")[1] == {"momentum": 0.9, "nesterov": True}


@pytest.mark.parametrize("name", ["sgd", "torch.optim:SGD", "torch.optim:RMSprop", "muon"])
def test_a_skipped_step_changes_no_state_either(name: str) -> None:
    module = nn.Linear(3, 2)
    optimizer = build_optimizer(name, module, lr=0.1)
    for parameter in module.parameters():
        parameter.grad = torch.full_like(parameter, float("nan"))
    before = [parameter.detach().clone() for parameter in module.parameters()]
    step_unless(optimizer, torch.tensor(True))
    assert all(map(torch.equal, before, module.parameters()))
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    step_unless(optimizer, torch.tensor(False))
    assert all(parameter.isfinite().all() for parameter in module.parameters())
    assert not any(map(torch.equal, before, module.parameters()))


@pytest.mark.parametrize("written", ["sgd", "muon", {"adamw": {"betas": [0.8, 0.95]}}, "torch.optim:NAdam"])
def test_a_stopped_run_goes_on_bit_for_bit(written: Any, tmp_path: Path) -> None:
    lr = 1e-6 if written == "sgd" else 1e-3  # losses in nats are sums over an image
    training = {**RECIPE["training"], "optimizer": {"name": written, "lr": lr, "weight_decay": 0.01}}
    recipe = {**RECIPE, "training": training}
    train(recipe, out=tmp_path / "whole")
    train(recipe, out=tmp_path / "run", callback=StopAt(4))
    assert not resume(tmp_path / "run", trust=["torch"]).stopped
    assert content(tmp_path / "run") == content(tmp_path / "whole")
