"""Which trainings are compiled, and what happens where it is not possible. Compiled steps: `tests/gpu`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from training.ranks import hierarchy
from training.runs import RECIPE

from convae.core.errors import ConfigError
from convae.describe import build
from convae.model.layers.base import Network
from convae.training import train
from convae.training.distributed import Ranks
from convae.training.recipe.schema import TrainingConfig
from convae.training.vae.compilation import compile_networks

MODEL = {"preset": "torch-vae", "input": [1, 16, 16], "latent": 2}
CPU = torch.device("cpu")


def recipe(**training: Any) -> dict[str, Any]:
    options = {**RECIPE["training"], "steps": 1, "epochs": None, **training}
    return {**RECIPE, "model": MODEL, "data": {"source": "digits", "size": 16}, "training": options}


def modes(model: Any) -> dict[str, str | None]:
    return {name: network.compile_mode for name, network in model.networks.items()}


@pytest.mark.parametrize("setting", ["auto", "off"])
def test_nothing_is_compiled_on_a_cpu_unless_it_is_asked_for(setting: Any) -> None:
    model = build(MODEL)
    options = TrainingConfig(compile=setting)
    assert compile_networks(model, options, CPU, Ranks(), steps=10**6, images=4, samples=1) is None
    assert modes(model) == {"encoder": None, "decoder": None}


def test_it_cannot_be_combined_with_checkpointing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^training\.compile: .*training\.checkpointing"):
        train(recipe(compile="on", checkpointing=True), out=tmp_path / "run")


def test_a_compiler_that_fails_is_named_with_its_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def run(*_: object) -> torch.Tensor:
        raise RuntimeError("no room for the code")

    monkeypatch.setattr("convae.model.layers.base.network.run_compiled", run)
    with pytest.raises(ConfigError, match=r"^training\.compile: .*no room for the code"):
        train(recipe(compile="on"), out=tmp_path / "run")


def test_parts_that_use_the_forward_context_are_left_out_with_a_note(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls: list[str] = []

    def run(network: Network, x: torch.Tensor, _: object) -> torch.Tensor:
        calls.append(network.side)
        for layer in network:
            x = layer(x)
        return x

    monkeypatch.setattr("convae.model.layers.base.network.run_compiled", run)
    written = hierarchy(compile="on", steps=1)
    run_ = train(written, out=tmp_path / "run")
    assert calls == []
    assert [note for note in run_.notes if "encoder and decoder" in note]
