"""The label as a part of the model's input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from narrow import narrow
from torch import Tensor

import convae
from convae.core.errors import ConfigError
from convae.core.random import torch_generator
from convae.describe import resolve, write
from convae.model.compatibility import check_labels
from convae.model.construct import construct
from convae.model.layers.base.network import Network
from convae.model.presets import PRESETS
from convae.model.summary import summarize
from convae.model.vae import VAE

VECTOR: dict[str, Any] = {
    "input": [2, 8, 8],
    "encoder": [{"conv": {"channels": 4, "stride": 2}}, "relu", "flatten"],
    "bottleneck": {"gaussian": {"latent": 3}},
    "decoder": [{"linear": {"features": 128}}, {"unflatten": {"to": [2, 8, 8]}}],
    "condition": {"classes": 5},
}
MAP: dict[str, Any] = {
    **VECTOR,
    "encoder": [{"conv": {"channels": 4, "stride": 2}}, "relu"],
    "decoder": [{"upsample": {"scale": 2}}, {"conv": {"channels": 2}}],
    "condition": {"classes": 5, "channels": 2},
}
kinds = pytest.mark.parametrize("described", [VECTOR, MAP], ids=["vector", "map"])
LABELS = torch.tensor([0, 3, 4])


def images(*sizes: int) -> Tensor:
    return torch.rand(3, 2, *(sizes or (8, 8)), generator=torch_generator(0, "test"))


class Reconstruct(torch.nn.Module):
    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        mean: Tensor = self.model(x, labels=labels).likelihood.mean
        return mean


@kinds
def test_the_label_enters_encoder_and_decoder(described: dict[str, Any]) -> None:
    model = convae.build(described).eval()
    first, other = (model(images(), labels=labels) for labels in (LABELS, LABELS.roll(1)))
    assert not torch.allclose(first.posterior.mean, other.posterior.mean)
    z = first.posterior.mean
    assert not torch.allclose(model.decode(z, LABELS).mean, model.decode(z, LABELS.roll(1)).mean)
    assert torch.equal(first.likelihood.mean, model.decode(z, LABELS).mean)
    # What a label says is the same wherever its image stands in the batch.
    alone = model(images()[1:2], labels=LABELS[1:2])
    torch.testing.assert_close(alone.posterior.mean, first.posterior.mean[1:2])


@kinds
def test_gradients_reach_the_vectors_of_the_labels_that_were_there(described: dict[str, Any]) -> None:
    model = convae.build(described)
    out = model(images(), torch_generator(1, "noise"), LABELS)
    (out.terms["kl"].sum() - out.likelihood.log_prob(images()).sum()).backward()
    assert model.condition is not None
    assert model.condition.weight.grad is not None
    assert model.condition.weight.grad.abs().sum(1).gt(0).tolist() == [True, False, False, True, True]


@kinds
def test_it_saves_and_loads_and_its_stored_form_stands_for_itself(described: dict[str, Any], tmp_path: Path) -> None:
    model = convae.build(described).eval()
    again = convae.load(convae.save(model, tmp_path / "model"))
    assert torch.equal(again(images(), labels=LABELS).likelihood.mean, model(images(), labels=LABELS).likelihood.mean)
    assert again.spec == model.spec == construct(resolve(json.loads(model.spec.model_dump_json()))).spec
    assert model.spec.condition == ({"classes": 5} if described is VECTOR else {"classes": 5, "channels": 2})
    assert (
        write(model.spec, "yaml").strip().endswith(f"condition: {{classes: 5{', channels: 2' * (described is MAP)}}}")
    )


@kinds
@pytest.mark.parametrize(("labels", "said"), [([0, 1], "2"), ([0, 3, 5], "0 to 4")])
def test_labels_that_are_no_classes_or_too_few_are_refused(
    described: dict[str, Any], labels: list[int], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        convae.build(described)(images(), labels=torch.tensor(labels))


@kinds
def test_its_summary_adds_up_and_it_exports(described: dict[str, Any]) -> None:
    model = convae.build(described).eval()
    assert sum(row.parameters for row in summarize(model)) == sum(p.numel() for p in model.parameters())
    into, beside = summarize(model)[:2]
    encoder, decoder = narrow(Network, model.encoder), narrow(Network, model.decoder)
    assert (into.part, into.shape[0]) == ("condition", encoder.shape_in[0])
    assert (beside.part, beside.shape, beside.parameters) == ("condition", decoder.shape_in, 0)
    exported = torch.export.export(Reconstruct(model), (images(), LABELS))
    torch.testing.assert_close(exported.module()(images(), LABELS), model(images(), None, LABELS).likelihood.mean)


@pytest.mark.parametrize("name", [name for name in PRESETS.names() if name != "dc-ae" and "tokenizer" not in name])
def test_any_preset_may_be_conditional(name: str) -> None:
    assert construct(resolve({"preset": name, "condition": {"classes": 3}})).spec.condition == {"classes": 3}


def test_a_conditional_model_takes_other_sizes_as_any_does() -> None:
    model = convae.build(MAP).eval()
    assert model(images(12, 16), labels=LABELS).likelihood.mean.shape == (3, 2, 12, 16)


def test_samples_are_of_the_classes_asked_for_or_of_all_by_turns() -> None:
    model = convae.build(VECTOR).eval()
    by_turns = model.sample(7, torch_generator(0, "sample"))
    turns = torch.tensor([0, 1, 2, 3, 4, 0, 1])
    assert torch.equal(by_turns, model.sample(7, torch_generator(0, "sample"), turns))
    assert not torch.allclose(by_turns, model.sample(7, torch_generator(0, "sample"), turns.roll(1)))


def test_other_models_take_no_notice_of_labels() -> None:
    model = convae.build({**VECTOR, "condition": None}).eval()
    assert torch.equal(model(images(), labels=LABELS).likelihood.mean, model(images()).likelihood.mean)
    check_labels(model, None, "photos")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "labels.* from 0 to 4"),
        ([0, 1], "3 labels.*got 2"),
        ([0, 5, 1], "0 to 4"),
        ([0, -1, 1], "0 to 4"),
    ],
)
def test_labels_that_the_model_does_not_know_are_refused(labels: list[int] | None, message: str) -> None:
    model = convae.build(VECTOR).eval()
    with pytest.raises(ConfigError, match=message):
        model.encode(images(), None if labels is None else torch.tensor(labels))


@pytest.mark.parametrize(
    ("labels", "message"),
    [(None, "photos has none"), ([0, -1], "photos has 1 image without a label"), ([0, 7], "0 to 4, but photos has 7")],
)
def test_labels_of_a_data_set_are_checked_at_once(labels: list[int] | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_labels(convae.build(VECTOR), labels, "photos")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"condition": {"clases": 5}}, "did you mean 'classes'"),
        ({"condition": {"classes": 0}}, r"condition: classes"),
        ({"classifier": [{"linear": {"features": 5}}]}, "condition and a classifier"),
    ],
)
def test_conditions_that_cannot_be_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        convae.build({**VECTOR, **change})
