"""Codes inside lists of layers: short forms, gradient checkpointing, and hierarchies of codes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from narrow import narrow
from torch import Tensor

import convae
from convae.core.errors import ConfigError
from convae.core.joint_posterior import JointPosterior
from convae.core.noise import CountedNoise
from convae.core.random import torch_generator
from convae.model.vae import VAE

CONV: dict[str, Any] = {"conv": {"channels": 6}}
HIERARCHY: dict[str, Any] = {
    "preset": "vq-vae-2",
    "input": [1, 16, 16],
    "channels": 8,
    "latent": 3,
    "codes": 8,
}


def with_layer(written: Any) -> VAE:
    encoder = [{"conv": {"channels": 6, "stride": 2}}, "silu", CONV, {"quantize": written}, CONV, "silu", "flatten"]
    return convae.build(
        {
            "input": [1, 8, 8],
            "encoder": encoder,
            "bottleneck": {"gaussian": {"latent": 3}},
            "decoder": [{"linear": {"features": 64}}, {"unflatten": {"to": [1, 8, 8]}}],
        }
    )


def images(model: VAE, count: int = 6) -> Tensor:
    return torch.rand(count, *model.input_shape, generator=torch_generator(0, "images"))


@pytest.mark.parametrize(
    "entry",
    [
        {"residual": {"levels": 2, "quantizer": {"vq": {"codes": 5}}}},
        {"grouped": {"groups": 3, "quantizer": {"fsq": {"levels": [5, 3]}}}},
        {"simvq": {"codes": 9}},
    ],
)
def test_the_name_of_a_quantizer_is_short_for_it(entry: Any) -> None:
    assert with_layer(entry).spec == with_layer({"quantizer": entry}).spec
    (stored,) = [spec for spec in with_layer(entry).spec.encoder if spec.name == "quantize"]
    assert stored.arguments == {"quantizer": entry}


def test_unknown_quantizers_are_refused_at_their_place() -> None:
    with pytest.raises(ConfigError, match=r"encoder\[3\].*simvq"):
        with_layer({"quantizer": {"simqv": {}}})


@pytest.mark.parametrize("entry", [{"vq": {"codes": 8}}, {"vq": {"codes": 8, "update": "gradient"}}, {"ibq": {}}])
def test_gradient_checkpointing_changes_nothing(entry: Any) -> None:
    found = []
    for is_on in (False, True):
        model = with_layer(entry)
        model.use_checkpointing(is_on)
        for step in range(3):
            out = model(images(model), CountedNoise(0, (step,), 0, 6))
            model.zero_grad()
            (sum(term.sum() for term in out.terms.values()) - out.likelihood.log_prob(images(model)).sum()).backward()
        gradients = {name: each.grad for name, each in model.named_parameters()}
        found.append({**model.state_dict(), **gradients, **out.terms})
    for name, value in found[0].items():
        assert torch.equal(narrow(Tensor, value), narrow(Tensor, found[1][name])), name


def test_two_levels_of_codes_are_encoded_decoded_and_sampled() -> None:
    model = convae.build(HIERARCHY)
    model(images(model), torch_generator(0))
    model.eval()
    posterior = narrow(JointPosterior, model.encode(images(model)))
    assert {name: tuple(codes.shape) for name, codes in posterior.codes.items()} == {
        "latent": (6, 2, 2),
        "latent 1": (6, 4, 4),
    }
    decoded = model.decode(posterior.mean).mean
    torch.testing.assert_close(model.decode_codes(posterior.codes).mean, decoded)
    top = model.decode_codes({"latent": posterior.codes["latent"]}).mean
    torch.testing.assert_close(model.decode(posterior.mean, levels=1).mean, top)
    assert not torch.equal(top, decoded)
    assert torch.equal(model.sample(3, torch_generator(1)), model.sample(3, torch_generator(1)))
    one = [torch_generator(0, number) for number in range(3)]
    alone = model.sample(1, [torch_generator(0, 2)])
    torch.testing.assert_close(model.sample(3, one)[2:], alone)
    z = model.sample_latents(2, torch_generator(0))
    torch.testing.assert_close(model.nearest_latents(z), z)


@pytest.mark.parametrize(
    ("codes", "part"),
    [
        ({"latent 1": torch.zeros(1, 4, 4, dtype=torch.long)}, "'latent' are missing"),
        ({"latnt": torch.zeros(1, 2, 2, dtype=torch.long)}, "did you mean 'latent'"),
        ({"latent": torch.full((1, 2, 2), 8)}, "from 0 to 7, got 8"),
    ],
)
def test_wrong_codes_of_a_hierarchy_are_refused(codes: dict[str, Tensor], part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        convae.build(HIERARCHY).decode_codes(codes)
