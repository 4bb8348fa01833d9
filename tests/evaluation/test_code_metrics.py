"""Usage and perplexity of codes over a data set, codebook by codebook."""

from __future__ import annotations

import pytest
import torch
from narrow import narrow

import convae
from convae.core.errors import ConfigError
from convae.core.posterior import CodePosterior
from convae.data import DataConfig, open_split
from convae.evaluation import evaluate
from convae.latents import encode

SPEC = {
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
        shares = codes[:, level].flatten().bincount(minlength=20).double() / codes[:, level].numel()
        assert found["code-usage"]["value"][level] == pytest.approx(float((shares > 0).double().mean()))
        assert found["code-perplexity"]["value"][level] == pytest.approx(float(torch.special.entr(shares).sum().exp()))


def test_too_many_codes_to_count_image_by_image_are_refused() -> None:
    bottleneck = {"lfq": {"bits": 13}}
    model = convae.build({**SPEC, "bottleneck": bottleneck}).eval()
    split = open_split(DataConfig(source="digits", size=(8, 8)), "test")
    with pytest.raises(ConfigError, match="4,096"):
        evaluate(model, split, metrics=["code-usage"])
