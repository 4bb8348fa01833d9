"""Runs of models with other posteriors and priors: resumed, accumulated, with averaged weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from training.runs import RECIPE, StopAt, content

import convae
from convae.training import resume, train

MODELS: dict[str, dict[str, Any]] = {
    "full": {"bottleneck": {"gaussian": {"latent": 3, "covariance": "full"}}},
    "iaf": {"bottleneck": {"gaussian": {"latent": 3, "flow": {"iaf": {"hidden": 8}}}}},
    "sphere": {"bottleneck": {"von-mises-fisher": {"latent": 3}}},
    "deterministic": {"bottleneck": {"deterministic": {"latent": 3}}},
    "flow-prior": {
        "bottleneck": {"gaussian": {"latent": 3}},
        "prior": {"flow": {"transform": {"coupling": {"steps": 2, "hidden": 8}}}},
    },
}


def recipe(which: str, **training: Any) -> dict[str, Any]:
    model = {
        "input": [1, 8, 8],
        "encoder": [{"conv": {"channels": 4, "stride": 2}}, "silu", "flatten"],
        "decoder": [{"linear": {"features": 64}}, {"unflatten": {"to": [1, 8, 8]}}],
        **MODELS[which],
    }
    options = {**RECIPE["training"], "epochs": None, "steps": 4, "ema": 0.9, **training}
    written = {key: value for key, value in RECIPE.items() if key not in ("objective", "model", "training")}
    return {**written, "model": model, "training": options}


@pytest.mark.parametrize("which", MODELS)
def test_a_resumed_run_is_the_unbroken_one(which: str, tmp_path: Path) -> None:
    train(recipe(which), out=tmp_path / "unbroken")
    train(recipe(which), out=tmp_path / "run", callback=StopAt(2))
    resume(tmp_path / "run")
    assert content(tmp_path / "run") == content(tmp_path / "unbroken")


@pytest.mark.parametrize("which", MODELS)
def test_accumulation_draws_the_same_latents(which: str, tmp_path: Path) -> None:
    whole = train(recipe(which, steps=2, precision="float32"), out=tmp_path / "whole")
    parts = train(recipe(which, steps=2, precision="float32", accumulate=4), out=tmp_path / "parts")
    models = [convae.load(run / "model") for run in (tmp_path / "whole", tmp_path / "parts")]
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    assert parts.metrics[-1]["total"] == pytest.approx(whole.metrics[-1]["total"], rel=1e-4)
