"""Binarization: dynamic in training, drawn once for held-out images, or by a threshold."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from narrow import present
from PIL import Image

import convae
from convae.core.errors import ConfigError
from convae.data import DataConfig, in_order, open_split
from convae.data.batches import Batches
from convae.data.splits.given import GivenData
from convae.evaluation import evaluate
from convae.latents import Session


def gray(tmp_path: Path, shape: tuple[int, ...] = (40, 6, 7)) -> str:
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    np.save(tmp_path / "gray.npy", pixels)
    return str(tmp_path / "gray.npy")


def images(batches: Batches, epoch: int) -> torch.Tensor:
    """The images of an epoch in the order of the split."""
    found = list(batches.iterate(epoch))
    order = torch.cat([batch.indices for batch in found]).argsort()
    return torch.cat([batch.images for batch in found])[order]


def test_dynamic_pixels_are_bernoulli_samples_of_the_gray_values(tmp_path: Path) -> None:
    source = gray(tmp_path)
    split = open_split(DataConfig(source=source, binarize="dynamic"), "all")
    plain = next(in_order(open_split(DataConfig(source=source), "all"), 40)).images
    batches = Batches(split, 8, seed=1)
    drawn = torch.stack([images(batches, epoch) for epoch in range(200)])
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    error = (drawn.mean(0) - plain)[(plain > 0) & (plain < 1)]
    inside = plain[(plain > 0) & (plain < 1)]
    scores = error / (inside * (1 - inside) / 200).sqrt()  # standard normal, if draws are independent over epochs
    assert abs(float(scores.mean())) < 0.12
    assert float(scores.std()) == pytest.approx(1, abs=0.08)
    flat = drawn[:, :, 0].flatten(2) - plain.flatten(2)[None, :, 0]
    neighbors = (flat[..., 1:] * flat[..., :-1]).mean(0)  # uncorrelated between pixels of an image
    assert abs(float(neighbors.mean())) < 4 * 0.17 / (200 * neighbors.numel()) ** 0.5


def test_held_out_images_are_drawn_once(tmp_path: Path) -> None:
    source = gray(tmp_path)
    split = open_split(DataConfig(source=source, binarize="dynamic"), "all")
    once = next(in_order(split, 40)).images
    torch.testing.assert_close(torch.cat([batch.images for batch in in_order(split, 7)]), once, rtol=0, atol=0)
    held = open_split(DataConfig(source=source, binarize="dynamic", test=0.5), "test")
    rows = [split.keys.index(key) for key in held.keys]
    torch.testing.assert_close(next(in_order(held, 40)).images, once[rows], rtol=0, atol=0)
    assert not torch.equal(images(Batches(split, 8, seed=0), 0), once)


def test_fixed_pixels_are_equal_in_all_epochs(tmp_path: Path) -> None:
    split = open_split(DataConfig(source=gray(tmp_path), binarize="fixed"), "all")
    once = next(in_order(split, 40)).images
    for seed, epoch in ((0, 0), (0, 1), (1, 0)):
        torch.testing.assert_close(images(Batches(split, 8, seed=seed), epoch), once, rtol=0, atol=0)


def test_threshold(tmp_path: Path) -> None:
    source = gray(tmp_path)
    plain = next(in_order(open_split(DataConfig(source=source), "all"), 40)).images
    found = next(in_order(open_split(DataConfig(source=source, binarize="threshold"), "all"), 40)).images
    torch.testing.assert_close(found, (plain > 0.5).float(), rtol=0, atol=0)


def test_an_image_is_drawn_alike_on_every_rank_and_in_every_batch_size(tmp_path: Path) -> None:
    split = open_split(DataConfig(source=gray(tmp_path), binarize="dynamic"), "all")
    whole = next(Batches(split, 40, seed=3).iterate(2)).images
    ranks = [next(Batches(split, 40, seed=3, part=(rank, 2)).iterate(2)).images for rank in range(2)]
    torch.testing.assert_close(torch.cat(ranks), whole, rtol=0, atol=0)
    torch.testing.assert_close(images(Batches(split, 8, seed=3), 2), images(Batches(split, 40, seed=3), 2))


def test_colors_are_drawn_for_each_channel(tmp_path: Path) -> None:
    split = open_split(DataConfig(source=gray(tmp_path, (8, 16, 16, 3)), binarize="fixed"), "all")
    found = next(in_order(split, 8)).images
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert not torch.equal(found[:, 0], found[:, 1])


def test_pages_of_a_file_have_random_numbers_of_their_own(tmp_path: Path) -> None:
    first, *others = (Image.new("L", (16, 16), 128) for _ in range(4))
    first.save(tmp_path / "stack.tif", save_all=True, append_images=others)
    source = {"folder": {"path": str(tmp_path), "pages": "all"}}
    choices: list[dict[str, Any]] = [{"binarize": "fixed"}, {"missing": 0.5}]
    for options in choices:
        batch = next(in_order(open_split(DataConfig(source=source, **options), "all"), 4))
        drawn = (batch.images if batch.weights is None else batch.weights).flatten(1)
        for one, other in itertools.combinations(drawn, 2):
            assert 0.3 < (one == other).float().mean() < 0.7


def test_missing_values_keep_the_fill_value() -> None:
    split = open_split(DataConfig(source="digits", size=8, missing=0.5, fill=0.5, binarize="fixed"), "test")
    batch = next(in_order(split, 16))
    observed = present(batch.weights) > 0
    assert set(batch.images[observed].unique().tolist()) == {0.0, 1.0}
    assert set(batch.images[~observed].unique().tolist()) == {0.5}


def test_binarized_images_have_two_levels_and_say_so(tmp_path: Path) -> None:
    split = open_split(DataConfig(source=gray(tmp_path), binarize="dynamic"), "all")
    assert split.levels == 2
    assert split.describe()["binarize"] == "dynamic"
    given = GivenData(np.random.default_rng(0).random((20, 1, 4, 4)).astype(np.float32))
    part = given.configure(DataConfig(source={"given": given.recorded()}, binarize="fixed")).split("train")
    assert part.levels == 2
    assert set(next(in_order(part, 20)).images.unique().tolist()) == {0.0, 1.0}
    assert part.describe()["binarize"] == "fixed"


def test_a_model_binarizes_the_images_that_it_is_evaluated_on(tmp_path: Path) -> None:
    recipe = {
        "data": {"source": "digits", "binarize": "dynamic"},
        "model": {"input": [1, 8, 8], "encoder": ["flatten"], "bottleneck": {"gaussian": {"latent": 2}},
                  "decoder": [{"linear": {"features": 64}}, {"unflatten": {"to": [1, 8, 8]}}]},
        "training": {"steps": 2, "batch_size": 16},
    }  # fmt: skip
    model = convae.train(recipe, out=tmp_path / "run").model
    assert model is not None
    other = tmp_path / "other.npy"
    np.save(other, np.random.default_rng(0).integers(0, 256, (20, 8, 8)).astype(np.uint8))
    for data in ("digits", str(other)):
        split = Session(model, data=data).images
        assert set(next(in_order(split, 20)).images.unique().tolist()) == {0.0, 1.0}
        report = evaluate(model, split, metrics=["elbo"])
        assert report.protocol["data"]["binarize"] == "dynamic"


def test_latents_of_dynamic_images_are_not_cached(tmp_path: Path) -> None:
    recipe = {
        "data": {"source": "digits", "binarize": "dynamic"},
        "model": "torch-vae",
        "training": {"steps": 2, "freeze": ["encoder", "bottleneck"], "cache_latents": True},
    }
    with pytest.raises(ConfigError, match=r"data\.binarize changes the images"):
        convae.train(recipe, out=tmp_path / "run")


@pytest.mark.parametrize("form", ["array", "dataset"])
def test_given_images_have_the_pixels_of_their_training(form: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 1, 6, 7)).astype(np.uint8)
    data: Any = pixels if form == "array" else torch.utils.data.TensorDataset(torch.from_numpy(pixels))
    given = GivenData(data)
    config = DataConfig(source={"given": given.recorded()}, binarize="fixed", validation=0)
    trained = next(in_order(given.configure(config).split("train"), 20)).images
    options = {"source": "digits", "binarize": "fixed"}
    model = convae.build({"preset": "torch-vae", "input": [1, 6, 7], "latent": 2, "max_filters": 4})
    model.provenance = model.provenance.model_copy(update={"data": options})
    assert torch.equal(next(in_order(Session(model, data=data).images, 20)).images, trained)
