"""The recipes of tokenizers, and the terms and layers for latents of generators, in short trainings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from training.runs import StopAt, content

from convae.core.documents import read_mapping
from convae.training import resume, train
from convae.training.loop.checkpoint import list_checkpoints, read_checkpoint
from convae.training.recipe.reading import packaged_recipes

DATA = {"source": "digits", "size": 16, "validation": 0.01}
SMALL = {"epochs": None, "steps": 6, "batch_size": 16, "log_every": 1, "pictures_every": 0, "checkpoint_every": 3}
MODEL = {"width": 4, "latent": 2}
TOKENIZERS = sorted(name for name in packaged_recipes() if name.startswith("tokenizer-"))


@pytest.mark.parametrize("name", TOKENIZERS)
def test_every_recipe_of_a_tokenizer_trains(name: str, tmp_path: Path) -> None:
    written: dict[str, Any] = read_mapping(packaged_recipes()[name])
    written["data"] = DATA
    written["model"] |= MODEL
    steps = {} if "stages" in written else {"steps": 2}
    written["training"] |= {"batch_size": 8, "log_every": 1, "pictures_every": 0, **steps}
    for stage in written.get("stages", []):
        stage["steps"] = 2
        for term in stage.get("objective", {}).values():
            term["discriminator"] = {"patch": {"channels": 4, "layers": 1}}
    run = train(written, out=tmp_path / "run")
    rows = [row for row in run.metrics if row["split"] == "train"]
    terms = {*written["objective"], *(["adversarial"] if "stages" in written else [])}
    assert all(term in rows[-1] for term in terms)
    assert run.last.latent_shape == (2, 4, 4)
    assert ("kl" in terms) == run.last.bottleneck.has_density


def test_there_are_recipes_with_and_without_each_term() -> None:
    texts = {name: packaged_recipes()[name].read_text() for name in TOKENIZERS}
    for term in ("\n  kl:", "adversarial: ", "perceptual: ", "alignment: "):
        assert {term in text for text in texts.values()} == {True, False}, term


def recipe() -> dict[str, Any]:
    """A training with both terms, noise on the latents and ordered channels."""
    terms = {
        "reconstruction": {},
        "equivariance": {"weight": 0.5},
        "alignment": {"network": {"features.pooled:Pooled": {"layers": "both"}}, "weight": 0.5},
    }
    model = {"preset": "tokenizer-tiny-f4", **MODEL, "posterior": "deterministic", "latent_noise": 0.3, "ordered": True}
    return {"data": DATA, "model": model, "objective": terms, "training": {**SMALL, "optimizer": {"lr": 3e-3}}}


def test_both_terms_and_both_layers_survive_a_stop(tmp_path: Path) -> None:
    run = train(recipe(), out=tmp_path / "unbroken")
    last = read_checkpoint(list_checkpoints(run.path / "checkpoints")[-1])
    own = {name for name in last.tensors if name.startswith("alignment.")}
    assert own == {"alignment.squares", "alignment.weight"}
    assert last.tensors["alignment.weight"].shape == (1, 2)
    rows = [row for row in run.metrics if row["split"] == "train"]
    assert {"equivariance", "alignment", "alignment_critic", "alignment_ratio"} <= rows[-1].keys()
    train(recipe(), out=tmp_path / "run", callback=StopAt(4))
    resume(tmp_path / "run", trust=["features"])
    assert content(tmp_path / "run") == content(tmp_path / "unbroken")


def test_with_weight_0_the_projection_is_trained_and_the_model_is_not(tmp_path: Path) -> None:
    watched = recipe()
    runs = {}
    for name, lr in (("trained", 0.1), ("still", 1e-9)):
        watched["objective"]["alignment"] |= {"weight": 0, "lr": lr}
        runs[name] = train(watched, out=tmp_path / name)
    del watched["objective"]["alignment"]
    without = train(watched, out=tmp_path / "without").last.state_dict()
    weights = {name: run.last.state_dict() for name, run in runs.items()}
    assert all(torch.equal(value, weights["still"][name]) for name, value in weights["trained"].items())
    # The sum with a gradient of 0 may have another layout in memory, over which a bias sums in another order.
    torch.testing.assert_close(weights["still"], without, rtol=1e-4, atol=1e-6)
    last = {name: read_checkpoint(list_checkpoints(run.path / "checkpoints")[-1]) for name, run in runs.items()}
    moved = last["trained"].tensors["alignment.weight"] - last["still"].tensors["alignment.weight"]
    assert moved.abs().max() > 1e-3  # in 6 steps, each about as large as its learning rate: 0.1, and 1e-9
