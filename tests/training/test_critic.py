"""A term with a module that trains against the model: two updates in a step, and an exact resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from training.runs import RECIPE, StopAt, content

from convae.training import resume, train
from convae.training.loop.checkpoint import list_checkpoints, read_checkpoint

TERM = "training.critic_term:Adversarial"
WITH_CRITIC: dict[str, Any] = {
    **RECIPE,
    "objective": {**RECIPE["objective"], TERM: {"weight": 0.5}},
    "training": {**RECIPE["training"], "epochs": 2, "ema": 0.9},
}


def test_a_critic_has_an_update_of_its_own_and_survives_a_stop(tmp_path: Path) -> None:
    run = train(WITH_CRITIC, out=tmp_path / "unbroken")
    last = read_checkpoint(list_checkpoints(run.path / "checkpoints")[-1])
    weight = last.tensors[f"{TERM}.linear.weight"]
    assert not torch.allclose(weight, torch.linspace(-0.1, 0.1, 64)[None])
    assert {f"optimizer_{TERM}", "optimizer"} <= last.values.keys()
    rows = [row for row in run.metrics if row["split"] == "train"]
    assert all(f"{TERM}_critic" in row and f"{TERM}_gradient_norm" in row for row in rows)
    train(WITH_CRITIC, out=tmp_path / "run", callback=StopAt(5))
    resume(tmp_path / "run", trust=["training"])
    assert content(tmp_path / "run") == content(tmp_path / "unbroken")


def test_the_critic_leaves_the_step_of_the_model_alone(tmp_path: Path) -> None:
    watched = {**WITH_CRITIC, "objective": {**RECIPE["objective"], TERM: {"weight": 0.0}}}
    one = train(watched, out=tmp_path / "with")
    two = train({**watched, "objective": RECIPE["objective"]}, out=tmp_path / "without")
    for name, value in one.last.state_dict().items():
        assert torch.equal(value, two.last.state_dict()[name]), name
