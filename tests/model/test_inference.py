"""torch as an inference engine gives what the model gives, in either layout of the weights."""

from __future__ import annotations

import torch

import convae
from convae.core.posterior import CodePosterior
from convae.core.random import torch_generator
from convae.model.inference import ChannelsLastEngine, TorchEngine, join_codes

MODEL = {
    "input": [1, 8, 8],
    "encoder": [{"conv": {"channels": 4, "stride": 2}}, "relu"],
    "bottleneck": {"gaussian": {"latent": 3}},
    "decoder": [{"conv-transpose": {"channels": 1, "stride": 2}}],
    "condition": {"classes": 2, "channels": 1},
}


def test_torch_gives_the_results_of_the_model_without_gradients() -> None:
    model = convae.build(MODEL).train()
    engine = TorchEngine(model)
    images, labels = torch.rand(4, 1, 8, 8, generator=torch_generator(0, "images")), torch.tensor([0, 1, 0, 1])
    found = engine.encode(images, labels)
    with torch.no_grad():
        posterior = model.encode(images, labels)
        other = model.decode(posterior.mean, 1 - labels).mean
        sampled = model.sample(3, torch_generator(1, "z"), torch.tensor([0, 0, 1]), temperature=0.5)
    assert torch.equal(found.mean, posterior.mean)
    assert torch.equal(found.logvar, posterior.logvar)
    assert found.codes is None
    assert not found.mean.requires_grad
    assert torch.equal(engine.reconstruct(images, labels, decoded_labels=1 - labels), other)
    drawn = engine.sample(3, torch_generator(1, "z"), torch.tensor([0, 0, 1]), temperature=0.5)
    assert torch.allclose(drawn, sampled, atol=1e-6)
    assert model.training


def test_channels_last_changes_the_layout_alone_until_it_is_closed() -> None:
    model = convae.build(MODEL).eval()
    kernels = [parameter for parameter in model.parameters() if parameter.ndim == 4 and parameter.shape[1] > 1]
    before = [parameter.stride() for parameter in kernels]
    values = [parameter.detach().clone() for parameter in kernels]
    z, labels = torch.zeros(2, *model.latent_shape), torch.tensor([0, 1])
    expected = TorchEngine(model).decode(z, labels)
    engine = ChannelsLastEngine(model)
    assert all(parameter.is_contiguous(memory_format=torch.channels_last) for parameter in kernels)
    assert torch.allclose(engine.decode(z, labels), expected, atol=1e-5)
    engine.close()
    assert [parameter.stride() for parameter in kernels] == before
    assert all(torch.equal(one, other) for one, other in zip(kernels, values, strict=True))


def test_codes_are_those_of_the_posterior_and_of_several_latents_in_a_row() -> None:
    model = convae.build({**MODEL, "condition": None, "bottleneck": {"vq": {"codes": 5, "latent": 2}}}).eval()
    images = torch.rand(3, 1, 8, 8, generator=torch_generator(0, "images"))
    with torch.no_grad():
        posterior = model.encode(images)
    assert isinstance(posterior, CodePosterior)
    codes = TorchEngine(model).encode(images).codes
    assert codes is not None
    assert torch.equal(codes, posterior.codes)
    assert join_codes({"z": codes, "top": codes[:, :1, 0]}).shape == (3, 4 * 4 + 1)
