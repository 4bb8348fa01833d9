"""Which models are said to need a prior, and which one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from training.runs import RECIPE

import convae
from convae.model.provenance import Provenance, TrainingFacts
from convae.training import train
from convae.training.result import missing_prior

VECTOR: dict[str, Any] = {
    "input": [1, 8, 8],
    "encoder": [{"conv": {"channels": 4, "stride": 4}}, "flatten"],
    "bottleneck": {"gaussian": {"latent": 3}},
    "decoder": [{"linear": {"features": 64}}, {"unflatten": {"to": [1, 8, 8]}}],
}
MAP: dict[str, Any] = {
    **VECTOR,
    "encoder": [{"conv": {"channels": 4, "stride": 4}}],
    "decoder": [{"conv-transpose": {"channels": 1, "stride": 4}}],
}
CODES: dict[str, Any] = {**MAP, "bottleneck": {"vq": {"codes": 4, "latent": 2}}}
LEVELS: dict[str, Any] = {**MAP, "bottleneck": {"residual": {"levels": 2, "quantizer": {"fsq": {"levels": [3]}}}}}
LARGE: dict[str, Any] = {**MAP, "bottleneck": {"deterministic": {"latent": 65}}}
DETERMINISTIC: dict[str, Any] = {**VECTOR, "bottleneck": {"deterministic": {"latent": 3}}}
SPHERE: dict[str, Any] = {**VECTOR, "bottleneck": {"von-mises-fisher": {"latent": 3}}}
HIERARCHY: dict[str, Any] = {"preset": "vq-vae-2", "input": [1, 16, 16]}


@pytest.mark.parametrize(
    ("described", "terms", "wanted"),
    [
        (CODES, ["reconstruction", "commitment"], "transformer"),
        (LEVELS, ["reconstruction"], "transformer"),
        (HIERARCHY, ["reconstruction", "commitment"], "transformer"),
        (HIERARCHY, None, "transformer"),
        ({**CODES, "prior": {"transformer": {"layers": 1, "width": 8, "heads": 2}}}, ["reconstruction"], None),
        (DETERMINISTIC, ["reconstruction"], "gmm"),
        (DETERMINISTIC, ["reconstruction", "latent-norm"], "gmm"),
        (DETERMINISTIC, ["reconstruction", "mmd"], None),
        (DETERMINISTIC, None, "gmm"),
        (LARGE, ["reconstruction"], "flow-matching"),
        ({**DETERMINISTIC, "prior": {"gmm": {"components": 2}}}, ["reconstruction"], None),
        (VECTOR, ["reconstruction"], "gmm"),
        (VECTOR, ["reconstruction", "kl"], None),
        (VECTOR, ["reconstruction", "my_package.terms:MyTerm"], None),
        (VECTOR, None, None),
        (SPHERE, ["reconstruction", "kl"], None),
    ],
)
def test_a_model_that_needs_a_prior_is_given_one(
    described: dict[str, Any], terms: list[str] | None, wanted: str | None
) -> None:
    model = convae.build(described)
    if terms is not None:
        model.provenance = Provenance(training=TrainingFacts(objective={term: {} for term in terms}))
    found = missing_prior(model)
    assert (None if found is None else found[0]) == wanted


def test_a_term_that_is_only_logged_holds_no_latents(tmp_path: Path) -> None:
    objective = {"reconstruction": {}, "kl": {"weight": 0}}
    training = {**RECIPE["training"], "epochs": None}
    logged = {**RECIPE, "objective": objective, "training": training}
    free = train({**logged, "stages": [{"steps": 2}]}, out=tmp_path / "free")
    assert any("kl" in note for note in free.notes)
    assert missing_prior(free.model) is not None
    held = train({**logged, "stages": [{"steps": 2}, {"steps": 2, "objective": {"kl": 1}}]}, out=tmp_path / "held")
    assert not any("kl" in note for note in held.notes)
    assert missing_prior(held.model) is None


def test_latents_of_a_frozen_encoder_are_as_it_was_trained(tmp_path: Path) -> None:
    plain = {**RECIPE, "objective": {"squared-error": {}}}
    short = ["training.epochs=1"]
    frozen = [*short, "training.freeze=[encoder, bottleneck]"]
    first = train(RECIPE, out=tmp_path / "first", overrides=short)
    assert first.total_unit == "nats"
    second = train({**plain, "start": {"model": str(first.path)}}, out=tmp_path / "second", overrides=frozen)
    assert second.total_unit == "squared image units"
    third = train({**plain, "start": {"model": str(second.path)}}, out=tmp_path / "third", overrides=frozen)
    free = train({**plain, "start": {"model": str(second.path)}}, out=tmp_path / "free", overrides=short)
    found = [missing_prior(convae.load(each.path)) for each in (first, second, third, free)]
    assert [each is None for each in found] == [True, True, True, False]
    assert "squared image units per validation image" in (second.path / "README.md").read_text()
