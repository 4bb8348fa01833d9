"""What a summary says of each layer."""

from __future__ import annotations

import math
from typing import Any

import pytest

from convae.describe import resolve
from convae.model.construct import construct
from convae.model.summary import LayerSummary, summarize


def first_layer(layer: Any) -> LayerSummary:
    spec = {
        "input": [4, 12, 8],
        "encoder": [layer, "flatten"],
        "bottleneck": {"gaussian": {"latent": 2}},
        "decoder": [{"linear": {"features": 4 * 12 * 8}}, {"unflatten": {"to": [4, 12, 8]}}],
    }
    return summarize(construct(resolve(spec)))[0]


@pytest.mark.parametrize(
    ("layer", "label", "kind", "receptive_field"),
    [
        ({"conv": {"channels": 8, "kernel": [5, 3], "stride": 2}}, "conv kernel 5×3, stride 2", "resizing", (5, 3)),
        ("C2d_4_8_3_1_1", "conv", "size-keeping", (3, 3)),
        ("relu", "relu", "parameter-free", (1, 1)),
        ({"residual-block": {"channels": 4, "norm": {"group-norm": {"groups": 2}}}}, "residual-block", None, (5, 5)),
        ({"residual": {"layers": ["silu", {"conv": {"channels": 4}}]}}, "residual of silu, conv", None, (3, 3)),
        ("flatten", "flatten", "vector", (math.inf, math.inf)),
    ],
)
def test_a_layer_has_a_label_a_kind_and_a_receptive_field(
    layer: Any, label: str, kind: str | None, receptive_field: tuple[float, ...]
) -> None:
    found = first_layer(layer)
    assert found.label == label
    assert found.kind == (kind or "size-keeping")
    assert found.receptive_field == receptive_field


def test_parts_follow_each_other_as_an_image_passes_them() -> None:
    layers = summarize(construct(resolve({"preset": "torch-vae", "input": [1, 16, 16], "latent": 2, "max_filters": 8})))
    parts = ["encoder", "bottleneck", "prior", "decoder", "likelihood"]
    assert list(dict.fromkeys(layer.part for layer in layers)) == parts
    assert [layer.shape for layer in layers if layer.kind == "latent"] == [(2,), (2,)]
    assert next(layer.layer for layer in layers if layer.part == "prior") == "standard-normal"
    assert not any(layer.receptive_field for layer in layers if layer.part != "encoder")


def test_a_learned_scale_of_the_likelihood_is_counted() -> None:
    given = {"preset": "torch-vae", "input": [1, 16, 16], "latent": 2, "max_filters": 8}
    model = construct(resolve({**given, "likelihood": {"gaussian": {"sigma": "learned"}}}))
    head = next(row for row in summarize(model) if row.part == "likelihood")
    assert (head.parameters, head.shape, head.label) == (1, (1, 16, 16), "gaussian sigma learned")
    assert sum(row.parameters for row in summarize(model)) == sum(one.numel() for one in model.parameters())


def test_a_prior_is_listed_with_its_arguments_and_parameters() -> None:
    given = {"preset": "torch-vae", "input": [1, 16, 16], "latent": 2, "max_filters": 8}
    model = construct(resolve({**given, "prior": {"mixture": {"components": 3}}}))
    row = next(row for row in summarize(model) if row.part == "prior")
    assert row.layer == "mixture {components: 3}"
    assert (row.shape, row.flops, row.receptive_field) == ((2,), 0, ())
    assert row.parameters == sum(one.numel() for one in model.prior.parameters()) == 3 * (2 + 2 + 1)
    assert sum(row.parameters for row in summarize(model)) == sum(one.numel() for one in model.parameters())
