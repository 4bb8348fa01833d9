"""The bottleneck of codes: a head before any quantizer, the short form, and the uniform prior."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import convae
from convae.core.errors import ConfigError, ShapeError
from convae.core.random import torch_generator
from convae.describe import resolve
from convae.model.bottlenecks.codes import Codes
from convae.model.construct import construct
from convae.model.priors.uniform_codes import UniformCodes

CODES, CHANNELS = 16, 3


def codes(shape: tuple[int, ...] = (CHANNELS, 4, 4), **options: Any) -> Codes:
    made = Codes(shape, **{"quantizer": {"vq": {"codes": CODES}}, **options}).eval()
    with torch.no_grad():
        made.reset(torch_generator(0, "book"))
    return made


def described(bottleneck: Any, encoder: Any = ()) -> dict[str, Any]:
    return {
        "input": [1, 8, 8],
        "encoder": [{"conv": {"channels": 4, "stride": 2}}, *encoder],
        "bottleneck": bottleneck,
        "decoder": ["flatten", {"linear": {"features": 64}}, {"unflatten": {"to": [1, 8, 8]}}],
    }


@pytest.mark.parametrize("shape", [(5,), (5, 6), (5, 6, 4), (5, 3, 2, 4)])
def test_a_head_maps_features_to_the_dimension_of_the_codes(shape: tuple[int, ...]) -> None:
    made = codes(shape, latent=3)
    with torch.no_grad():
        x = torch.randn(2, *shape, generator=torch_generator(0, "x"))
        found = made.posterior(x)
        values = (x.movedim(1, -1) @ made.weight.T + made.bias).movedim(-1, 1)
        assert torch.equal(found.codes, made.quantizer.nearest(values))
    assert found.mean.shape == (2, *made.latent_shape) == (2, 3, *shape[1:])
    assert found.codes.shape == (2, *made.code_shape)
    assert torch.equal(made(x), found.mean)


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ({"vq": {"codes": 9, "latent": 3}}, {"codes": {"latent": 3, "quantizer": {"vq": {"codes": 9}}}}),
        ({"vq": {"latent": 3, "codes": 512}}, {"codes": {"latent": 3, "quantizer": {"vq": {}}}}),
        ({"fsq": {"levels": [5, 4]}}, {"codes": {"quantizer": {"fsq": {"levels": [5, 4]}}}}),
        (
            {"vq": {"head": False, "codes": 9}},
            {"codes": {"head": False, "quantizer": {"vq": {"codes": 9}}}},
        ),
        ({"codes": {"latent": 2, "quantizer": "vq"}}, {"codes": {"latent": 2, "quantizer": {"vq": {}}}}),
    ],
)
def test_the_name_of_a_quantizer_is_short_for_it(short: Any, long: Any) -> None:
    assert construct(resolve(described(short))).spec.bottleneck == long
    assert construct(resolve(described(long))).spec == construct(resolve(described(short))).spec


@pytest.mark.parametrize(
    ("bottleneck", "part"),
    [
        ({"vq": {"code": 5, "latent": 2}}, "did you mean 'codes'"),
        ({"vqq": {"codes": 5}}, "did you mean 'vq'"),
        ({"codes": {"quantizer": "fsqq", "latent": 2}}, "did you mean 'fsq'"),
        ({"codes": {"latent": 2}}, "quantizer"),
        ({"vq": {"codes": 5}}, "'latent' is missing"),
        ({"fsq": {"levels": [5, 4], "latent": 3}}, "2 channels"),
    ],
)
def test_wrong_descriptions_are_refused(bottleneck: Any, part: str) -> None:
    with pytest.raises((ConfigError, ShapeError), match=part):
        convae.build(described(bottleneck))


def test_without_a_head_the_channels_of_the_features_are_those_of_the_codes() -> None:
    assert codes(head=False).latent_shape == (CHANNELS, 4, 4)
    with pytest.raises(ShapeError, match=r"3 feature channels.*4×2×2"):
        Codes((4, 2, 2), latent=3, head=False, quantizer="vq")


def test_the_divergence_is_that_of_a_certain_entry_from_an_even_prior() -> None:
    made = codes(latent=CHANNELS)
    posterior = made.posterior(torch.randn(8, CHANNELS, 4, 4, generator=torch_generator(0, "x")))
    torch.testing.assert_close(posterior.kl(), torch.full((8,), 16 * math.log(CODES)))
    # KL = E[log q(z) − log p(z)], and z is certain.
    z = posterior.sample(torch_generator(0))
    torch.testing.assert_close(posterior.kl(), posterior.log_prob(z) - UniformCodes(made).log_prob(z))
    assert posterior.log_prob(z + 1).eq(-math.inf).all()


def test_samples_are_drawn_evenly_and_the_same_for_any_count() -> None:
    made = codes(latent=CHANNELS)
    prior = UniformCodes(made)
    z = made.embed_codes(prior.sample(400, torch_generator(0)))
    assert z.shape == (400, CHANNELS, 4, 4)
    uses = made.quantizer.nearest(z).flatten().bincount(minlength=CODES).double()
    assert ((uses / uses.sum() - 1 / CODES).abs() < 0.02).all()
    own = [torch_generator(0, number) for number in range(3)]
    alone = prior.sample(1, [torch_generator(0, 2)])
    assert torch.equal(prior.sample(3, own)[2:], alone)
    with pytest.raises(ShapeError, match="2 latents, got 1"):
        prior.sample(2, [torch_generator(0)])


def test_a_preset_takes_it_in_the_place_of_its_own() -> None:
    model = convae.build(
        {
            "preset": "sd-f8",
            "input": [3, 16, 16],
            "width": 4,
            "latent": 2,
            "bottleneck": {"vq": {"codes": 8, "latent": 2}},
        }
    )
    assert model.latent_shape[0] == 2
    assert isinstance(model.bottleneck, Codes)
    assert model.sample(2, torch_generator(0)).shape == (2, 3, 16, 16)
