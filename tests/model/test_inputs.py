"""What is given to a model: converted where that loses nothing, or refused by one sentence that says what to do."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from narrow import narrow
from PIL import Image
from torch import Tensor

import convae
from convae.core.errors import ConfigError, ConvaeError, ShapeError
from convae.core.posterior import CodePosterior
from convae.model.inputs import unchecked_values
from convae.model.vae import VAE

VQ = {
    "input": [1, 8, 8],
    "encoder": [{"conv": {"channels": 8, "stride": 2}}, "batch-norm"],
    "bottleneck": {"vq": {"codes": 16, "latent": 4}},
    "decoder": [{"conv-transpose": {"channels": 1, "stride": 2, "output_padding": 1}}],
}
CONDITIONAL = {"preset": "torch-vae", "input": [1, 8, 8], "latent": 2, "max_filters": 4, "condition": {"classes": 3}}
LIKELIHOODS = ["bernoulli", {"gaussian": {"sigma": "pixel"}}, {"laplace": {"scale": "pixel"}}, "discretized-logistic"]


@pytest.fixture(scope="module")
def small() -> VAE:
    return convae.build({"preset": "torch-vae", "input": [1, 8, 8], "latent": 2, "max_filters": 4}).eval()


X = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
WRONG_IMAGES: list[tuple[Any, str]] = [
    (X * 255, "images / 255"),
    (X * 65535, "images / 65535"),
    (X * 2 - 1, r"\(images \+ 1\) / 2"),
    (X * 1.2 - 0.1, r"clamp\(0, 1\)"),
    ((X - 0.45) / 0.2, "normalization"),
    (torch.full_like(X, torch.nan), "NaN"),
    (torch.full_like(X, torch.inf), "infinity"),
    (X.to_sparse(), r"dense.*to_dense\(\)"),
    ((X * 255).to(torch.uint8), "8-bit images by 255"),
    ((X * 255).long(), "int64"),
    (X > 0.5, "bool"),
    (X.numpy(), r"NumPy array.*torch\.as_tensor"),
    (X.tolist(), "list"),
    (Image.new("L", (8, 8)), r"Pillow image.*to_tensor"),
    (None, "None"),
    (X.to("meta"), "meta.*cpu"),
    (torch.rand(2, 8, 8, 1), r"movedim\(-1, 1\)"),
    (torch.rand(8), "1×8×8"),
    (torch.tensor(0.5), "1×8×8"),
]


@pytest.mark.parametrize(("given", "part"), WRONG_IMAGES, ids=[part for _, part in WRONG_IMAGES])
def test_what_are_no_images_in_0_to_1_is_refused_at_every_door(small: VAE, given: Any, part: str) -> None:
    for entry in (small.encode, small, small.train()):
        with pytest.raises(ShapeError, match=part):
            entry(given)
    small.eval()


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=str)
def test_a_likelihood_looks_at_the_images_too(likelihood: Any) -> None:
    spec = {"preset": "torch-vae", "input": [1, 8, 8], "latent": 2, "max_filters": 4, "likelihood": likelihood}
    found = convae.build(spec).decode(torch.zeros(2, 2))
    for given, part in WRONG_IMAGES[:-3]:
        with pytest.raises(ShapeError, match=part):
            found.log_prob(given)
    assert found.log_prob(X.half()).shape == (2,)


def test_values_are_not_looked_at_where_they_are_known(small: VAE, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = 0

    def counted(x: Tensor) -> Any:
        nonlocal looked
        looked += 1
        return torch.aminmax(x)

    monkeypatch.setattr(Tensor, "aminmax", counted)
    small.encode(X)
    assert looked == 1
    with unchecked_values():
        small(X).likelihood.log_prob(X)
    assert looked == 1


@pytest.mark.parametrize(
    ("given", "part"),
    [
        (torch.zeros(2, 2, dtype=torch.long), "decode_codes"),
        (np.zeros((2, 2)), "NumPy array"),
        ([[0.0, 0.0]], "list"),
        (torch.full((2, 2), torch.nan), "NaN"),
        (torch.zeros(2, 2, device="meta"), "meta.*cpu"),
        (torch.zeros(2, 3), "latents are 2, got 3"),
        (torch.zeros(2), r"latent\[None\]"),
        (torch.tensor(0.0), "latents are 2"),
    ],
)
def test_what_are_no_latents_is_refused(small: VAE, given: Any, part: str) -> None:
    with pytest.raises(ShapeError, match=part):
        small.decode(given)


@pytest.mark.parametrize("count", [-1, 0, 2.5, "3", True, None])
def test_a_count_is_a_whole_number_of_at_least_one(small: VAE, count: Any) -> None:
    with pytest.raises(ConfigError, match=r"at least 1, got"):
        small.sample(count)


def test_counts_of_numpy_are_counts_and_seeds_are_no_generators(small: VAE) -> None:
    assert len(small.sample(np.int64(3))) == 3
    wrongs: list[Any] = [0, [0, 1], "seed", []]
    for wrong in wrongs:
        with pytest.raises(ConfigError, match="generator"):
            small.sample(2, wrong)


@pytest.mark.parametrize(
    "labels", [[0, 1], torch.tensor([0.0, 1.0]), torch.tensor(0), torch.tensor([0, 3]), torch.tensor([-1, 0])]
)
def test_what_are_no_labels_is_refused(labels: Any) -> None:
    model = convae.build(CONDITIONAL)
    for call in (lambda: model.encode(X, labels), lambda: model.decode(torch.zeros(2, 2), labels)):
        with pytest.raises(ConfigError, match="label"):
            call()
    assert torch.equal(
        model.encode(X, torch.tensor([0, 2], dtype=torch.int32)).mean, model.encode(X, torch.tensor([0, 2])).mean
    )


def test_codes_are_decoded_as_their_latents_are() -> None:
    model = convae.build(VQ)
    found = narrow(CodePosterior, model.encode(X))
    assert torch.equal(model.decode_codes(found.codes).mean, model.decode(found.mean).mean)
    assert torch.equal(model.decode_codes(found.codes.to(torch.int32)).mean, model.decode(found.mean).mean)


@pytest.mark.parametrize(
    ("codes", "part"),
    [
        (torch.full((2, 4, 4), 16), "from 0 to 15, got 16"),
        (torch.full((2, 4, 4), -1), "from 0 to 15, got -1"),
        (torch.zeros(2, 4, 4), "integers"),
        (torch.zeros(2, 4, dtype=torch.long), "batch×4×4"),
        (np.zeros((2, 4, 4), int), "NumPy array"),
    ],
)
def test_what_are_no_codes_is_refused(codes: Any, part: str) -> None:
    with pytest.raises(ConvaeError, match=part):
        convae.build(VQ).decode_codes(codes)


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_weights_of_several_types_are_named(small: VAE, part: str) -> None:
    mixed = copy.deepcopy(small)
    getattr(mixed, part).half()
    for failing in (lambda: mixed(X), lambda: mixed.encode(X) if part == "encoder" else mixed.sample(2)):
        with pytest.raises(ConfigError, match=rf"{part}\S* is float16") as raised:
            failing()
        assert "float32" in str(raised.value)
    assert mixed.float()(X).latent.dtype == torch.float32


def test_codes_are_embedded_as_the_latents_that_they_are() -> None:
    model = convae.build(VQ)
    found = narrow(CodePosterior, model.encode(X))
    assert torch.equal(model.embed_codes(found.codes), found.mean)


def test_a_model_without_a_codebook_says_so(small: VAE) -> None:
    with pytest.raises(ConfigError, match="no codebook"):
        small.decode_codes(torch.zeros(2, 2, dtype=torch.long))


def test_an_empty_batch_stays_empty(small: VAE) -> None:
    found = small.encode(X[:0])
    assert found.kl().shape == (0,)
    assert small.decode(found.mean).mean.shape == (0, 1, 8, 8)
    assert convae.build(VQ).encode(X[:0]).kl().shape == (0,)
