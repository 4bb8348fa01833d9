"""Presets at the sizes of their originals, and at every other."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from narrow import narrow

import convae
from convae.core.errors import ConfigError
from convae.core.random import torch_generator
from convae.describe import resolve
from convae.model.construct import construct
from convae.model.layers.base.network import Network
from convae.model.presets import PRESETS
from convae.model.summary import summarize


def trace(spec: Any, *kinds: str) -> list[tuple[int, ...]]:
    """The shapes after each layer whose name is one of `kinds`."""
    rows = [row for row in summarize(construct(resolve(spec))) if row.part != "likelihood"]
    return [row.shape for row in rows if row.layer.split()[0] in kinds]


def test_torch_vae_has_exactly_the_shapes_of_its_original() -> None:
    shapes = trace("torch-vae", "conv", "flatten", "gaussian", "linear", "unflatten", "conv-transpose")
    assert shapes == [
        *[(32, 32, 32), (64, 16, 16), (128, 8, 8), (8192,)],
        (64,),
        *[(8192,), (128, 8, 8), (64, 16, 16), (32, 32, 32), (3, 64, 64)],
    ]


def test_celeba_beta_has_exactly_the_shapes_of_its_original() -> None:
    shapes = trace("celeba-beta", "conv", "flatten", "gaussian", "linear", "unflatten", "conv-transpose")
    assert shapes == [
        *[(32, 64, 64), (64, 32, 32), (128, 16, 16), (256, 8, 8), (16384,)],
        (256,),
        *[(16384,), (256, 8, 8)],
        *[(256, 16, 16), (128, 32, 32), (64, 64, 64), (32, 128, 128), (3, 128, 128)],
    ]
    weights = {name: tensor.numel() for name, tensor in construct(resolve("celeba-beta")).named_parameters()}
    # Two dense maps of 16384 to 256 in one, and one of 256 to 16384.
    assert weights["bottleneck.weight"] == 2 * 256 * 16384
    assert weights["decoder.0.weight"] == 256 * 16384


def test_arch_def_512_has_exactly_the_shapes_of_its_document() -> None:
    shapes = trace("arch-def-512", "conv", "unflatten", "conv-transpose")
    down = [(32, 256), (64, 128), (128, 64), (256, 32), (512, 16), (1024, 8), (1024, 4)]
    up = [(1024, 4), (1024, 8), (1024, 16), (512, 32), (256, 64), (128, 128), (64, 256), (32, 512), (3, 512)]
    assert shapes == [(channels, size, size) for channels, size in down + up]


def test_image_vae_solves_the_kernels_of_its_published_models() -> None:
    spec = construct(resolve("image-vae")).spec
    kernels = [layer.arguments.get("kernel", 3) for layer in spec.encoder if layer.name == "conv"]
    assert kernels == [2, 2, 5]
    assert trace("image-vae", "conv", "conv-transpose") == [
        *[(22, 18, 18), (43, 11, 11), (64, 7, 7)],
        *[(43, 11, 11), (22, 18, 18), (1, 28, 28)],
    ]


def test_sd_f8_has_as_many_parameters_as_its_original() -> None:
    model = construct(resolve("sd-f8"))
    assert sum(parameter.numel() for parameter in model.parameters()) == 83_653_863
    assert model.latent_shape == (4, 32, 32)


def test_flex_256_is_the_lists_of_its_document() -> None:
    shapes = trace("flex-256", "conv", "upsample")
    assert [shape[1] for shape in shapes] == [256, 64, 16, 16, 16, 16, 16, 64, 64, 256, 256, 256]
    assert [shape[0] for shape in shapes] == [128, 128, 256, 8, 8, 4, 512, 512, 512, 256, 256, 3]


@pytest.mark.parametrize(("grid", "latent"), [("global", (128, 1, 1)), ("spatial", (128, 4, 4))])
def test_dcgan_has_no_dense_layer_and_norms_all_but_its_first_and_last(grid: str, latent: tuple[int, ...]) -> None:
    model = construct(resolve({"preset": "dcgan", "grid": grid}))
    names = [layer.name for part in (model.encoder, model.decoder) for layer in narrow(Network, part).specs]
    assert model.latent_shape == latent
    assert not {"linear", "flatten", "unflatten", "max-pool", "upsample"} & set(names)
    assert names[:5] == ["conv", "leaky-relu", "conv", "batch-norm", "leaky-relu"]
    assert names[-4:] == ["conv-transpose", "batch-norm", "relu", "conv-transpose"]


@pytest.mark.parametrize("features", [(64, 7), (64, 7, 29)])
def test_features_that_do_not_fit_the_input_are_refused(features: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"image-vae: features .* 1×28×28"):
        resolve({"preset": "image-vae", "features": features})


SMALL: dict[str, dict[str, Any]] = {
    "torch-vae": {"latent": 3, "max_filters": 8},
    "celeba-beta": {"latent": 3},
    "dc-ae": {
        "latent": 4,
        "channels": [4, 8],
        "encoder_blocks": [1, 1],
        "decoder_blocks": [1, 1],
        "attention": 1,
        "head_channels": 4,
    },
    "flux-1": {"latent": 2, "width": 8},
    "flux-2": {"latent": 2, "width": 8, "decoder_width": 4},
    "arch-def-512": {"latent": 3, "filters": [4, 8, 8, 16]},
    "dcgan": {"latent": 3, "filters": 8},
    "flex-256": {"latent": 2, "width": 8},
    "image-vae": {"latent": 3, "features": None},
    "ladder": {"latent": 3, "size": "tiny"},
    "resnet": {"latent": 3, "size": "tiny"},
    "sd-f8": {"latent": 2, "width": 8, "blocks": 1},
    "taesd": {"latent": 2, "width": 8},
    **{f"tokenizer-{kind}": {"latent": 2, "width": 8} for kind in ("f8", "f16", "f32", "tiny-f4", "tiny-f8")},
    "vq-vae-2": {"latent": 2, "channels": 8, "codes": 8},
    "vqgan": {
        "latent": 2,
        "codes": 8,
        "width": 8,
        "multipliers": [1, 1],
        "blocks": 1,
        "attention_stages": [False, True],
    },
}
INPUTS = [(1, 28, 28), (3, 33, 47), (1, 100), (1, 12, 10, 9), (3, 5, 1)]
FACTORS = {"dc-ae": 8, "tokenizer-f8": 8, "tokenizer-f16": 16, "tokenizer-f32": 32}
FACTORS |= {"tokenizer-tiny-f4": 4, "tokenizer-tiny-f8": 8}
"""Sizes of the images of a preset are multiples of them."""
every_preset = pytest.mark.parametrize("preset", PRESETS.names())


def small(preset: str, **given: Any) -> dict[str, Any]:
    return {"preset": preset, **SMALL[preset], **given}


@every_preset
@pytest.mark.parametrize("input", INPUTS, ids=str)
def test_any_input_comes_back_in_its_own_shape(preset: str, input: tuple[int, ...]) -> None:
    if preset in FACTORS:  # whose channels are rearranged to positions and back
        factor = FACTORS[preset]
        input = (input[0], *(factor * -(-size // factor) for size in input[1:]))
    model = convae.build(small(preset, input=input)).eval()
    x = torch.rand(2, *input, generator=torch_generator(0, "x"))
    out = model(x)
    assert out.likelihood.mean.shape == x.shape
    assert out.latent.shape == (2, *model.latent_shape)


@every_preset
def test_a_likelihood_with_two_values_for_each_gets_twice_the_channels(preset: str) -> None:
    size = max(16, FACTORS.get(preset, 1))
    spec = small(preset, input=[3, size, size], likelihood={"discretized-logistic": {"scale": "pixel"}})
    model = convae.build(spec)
    assert model.decoder.shape_out == (6, size, size)
    assert model.decode(torch.zeros(2, *model.latent_shape)).mean.shape == (2, 3, size, size)


@every_preset
def test_training_lowers_the_loss_from_the_first_step(preset: str) -> None:
    size = max(16, FACTORS.get(preset, 1))
    model = convae.build(small(preset, input=[1, size, size]))
    grid = torch.linspace(0, 1, size)
    x = torch.stack([(grid[:, None] * a + grid[None] * (1 - a)).unsqueeze(0) for a in torch.linspace(0, 1, 8)])
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    losses = []
    for step in range(6):
        out = model(x, torch_generator(0, "noise", step))
        loss = -out.likelihood.log_prob(x).mean()
        loss = loss + out.posterior.kl().mean() if out.posterior.has_density else loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert min(losses[3:]) < losses[0]
    assert sum(losses[3:]) < sum(losses[:3])
