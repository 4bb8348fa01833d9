"""Usage and perplexity of codes over a data set, codebook by codebook."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from narrow import narrow

import convae
from convae.core.errors import ConfigError
from convae.core.posterior import CodePosterior
from convae.data import DataConfig, open_split
from convae.evaluation import evaluate
from convae.latents import encode

SPEC: dict[str, Any] = {
    "input": [1, 8, 8],
    "encoder": [{"conv": {"channels": 4, "stride": 2}}],
    "bottleneck": {"grouped": {"groups": 2, "latent": 4, "quantizer": {"vq": {"codes": 20}}}},
    "decoder": ["flatten", {"linear": {"features": 64}}, {"unflatten": {"to": [1, 8, 8]}}],
}


def test_both_are_those_of_the_codes_of_all_images() -> None:
    model = convae.build(SPEC, seed=1).eval()
    split = open_split(DataConfig(source="digits", size=(8, 8)), "test")
    found = evaluate(model, split, metrics=["code-usage", "code-perplexity"]).as_dict()
    codes = encode(model, split).codes
    assert codes is not None
    assert codes.shape == (len(split), 2, 4, 4)
    assert narrow(CodePosterior, model.encode(torch.rand(1, 1, 8, 8))).codebook_sizes == (20, 20)
    for level in range(2):
        fractions = codes[:, level].flatten().bincount(minlength=20).double() / codes[:, level].numel()
        assert found["code-usage"]["value"][level] == pytest.approx(float((fractions > 0).double().mean()))
        assert found["code-perplexity"]["value"][level] == pytest.approx(
            float(torch.special.entr(fractions).sum().exp())
        )


def _spec(encoder: list[Any], bottleneck: dict[str, Any]) -> dict[str, Any]:
    return {**SPEC, "encoder": encoder, "bottleneck": bottleneck}


def test_the_codes_of_a_large_codebook_are_counted() -> None:
    model = convae.build({**SPEC, "bottleneck": {"lfq": {"bits": 18}}}, seed=1).eval()
    split = open_split(DataConfig(source="digits", size=(8, 8)), "test")
    found = evaluate(model, split, metrics=["code-usage", "code-perplexity"], batch_size=100).as_dict()
    codes = encode(model, split).codes
    assert codes is not None
    uses = codes.unique(return_counts=True)[1].double()
    assert found["code-usage"]["value"] == [len(uses) / (1 << 18)]
    assert found["code-perplexity"]["value"] == pytest.approx(
        [float(torch.special.entr(uses / uses.sum()).sum().exp())]
    )
    assert found["code-usage"]["interval"] is None


@pytest.mark.parametrize(
    ("encoder", "bottleneck", "parts"),
    [
        ([{"quantize": {"fsq": {"levels": [3, 3, 3, 3]}}}], {"gaussian": {"latent": 3}}, {"": 81}),
        (
            [{"quantize": {"fsq": {"levels": [3, 3, 3, 3]}}}],
            SPEC["bottleneck"],
            {"encoder.1": 81, "latent/0": 20, "latent/1": 20},
        ),
        ([], {"residual": {"levels": 3, "quantizer": {"fsq": {"levels": [5, 5]}}}}, {"0": 25, "1": 25, "2": 25}),
    ],
    ids=["layer", "layer and bottleneck", "levels"],
)
def test_every_codebook_is_measured_and_named_by_its_place(
    encoder: list[Any], bottleneck: dict[str, Any], parts: dict[str, int]
) -> None:
    model = convae.build(_spec([*SPEC["encoder"], *encoder], bottleneck), seed=1).eval()
    split = open_split(DataConfig(source="digits", size=(8, 8)), "test")
    found = evaluate(model, split, metrics=["code-usage", "code-perplexity"]).as_dict()
    assert found["code-usage"].get("parts", [""]) == list(parts)
    assert all(0 < value <= 1 for value in found["code-usage"]["value"])
    pairs = zip(found["code-perplexity"]["value"], parts.values(), strict=True)
    assert all(1 <= value <= size for value, size in pairs)


def test_a_model_without_a_quantizer_has_neither() -> None:
    model = convae.build({**SPEC, "bottleneck": {"gaussian": {"latent": 3}}}).eval()
    split = open_split(DataConfig(source="digits", size=(8, 8)), "test")
    with pytest.raises(ConfigError, match=r"code-usage.*quantizer"):
        evaluate(model, split, metrics=["code-usage"])
