"""Missing values: from NaN, masks and alpha, and dropped at random."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from narrow import present
from PIL import Image

from convae.core.errors import ConfigError, DataError
from convae.core.types import Batch
from convae.data import DataConfig, in_order, open_split
from convae.data.batches import Batches
from convae.data.splits.given import GivenData

RANDOM = np.random.default_rng(0)
MASK = RANDOM.random((6, 4, 5)) < 0.6
MASK[:, 0, 0] = True


def batch_of(source: Any, **options: Any) -> Batch:
    split = open_split(DataConfig(source=source, **options), "all")
    return next(in_order(split, len(split)))


def test_nan_is_missing_and_filled(tmp_path: Path) -> None:
    values = RANDOM.random((6, 4, 5)).astype(np.float32)
    np.save(tmp_path / "a.npy", np.where(MASK, values, np.nan))
    batch = batch_of(str(tmp_path / "a.npy"), missing="nan", fill=0.25)
    assert batch.images.shape == (6, 1, 4, 5)
    np.testing.assert_array_equal(batch.images[:, 0], np.where(MASK, values, np.float32(0.25)))
    np.testing.assert_array_equal(present(batch.weights)[:, 0], MASK)


def test_nan_in_a_range_is_missing(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.where(MASK, 3.0, np.nan))
    batch = batch_of({"arrays": {"path": str(tmp_path / "a.npy"), "range": [1, 5]}}, missing="nan")
    np.testing.assert_allclose(batch.images[:, 0], np.where(MASK, 0.5, 0))


@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_masks_and_weights_are_read_beside_the_images(tmp_path: Path, kind: str) -> None:
    pixels = RANDOM.integers(0, 256, (6, 4, 5, 3)).astype(np.uint8)
    images = pixels if kind == "uint8" else (pixels / 255).astype(np.float32)
    weights = np.where(MASK, 0.2, 0)
    np.savez(tmp_path / "a.npz", images=images, mask=weights)
    batch = batch_of(str(tmp_path / "a.npz"), missing="mask")
    np.testing.assert_allclose(batch.images.movedim(1, -1), np.where(MASK[..., None], pixels, 0) / 255, atol=1e-7)
    np.testing.assert_allclose(present(batch.weights)[:, 0], weights, atol=1e-7)
    assert batch_of(str(tmp_path / "a.npz")).weights is None


def test_transparent_pixels_are_missing(tmp_path: Path) -> None:
    pixels = RANDOM.integers(0, 256, (4, 4, 4), np.uint8)
    pixels[..., 3] = 255
    pixels[:2, :, 3] = 0
    Image.fromarray(pixels, "RGBA").save(tmp_path / "a.png")
    batch = batch_of(str(tmp_path), missing="alpha")
    assert batch.images.shape == (1, 3, 4, 4)
    np.testing.assert_allclose(batch.images[0, :, 2:].movedim(0, -1), pixels[2:, :, :3] / 255, atol=1e-7)
    assert batch.images[0, :, :2].abs().max() == 0
    np.testing.assert_array_equal(present(batch.weights)[0, 0], pixels[..., 3] / 255)


def test_a_fraction_is_dropped_and_stays_dropped() -> None:
    config = DataConfig(source={"sprites": {"count": 200, "size": 16}}, missing=0.5)
    split = open_split(config, "all")
    whole = next(in_order(open_split(config.model_copy(update={"missing": None}), "all"), 200))
    batch = next(in_order(split, 200))
    weights = present(batch.weights)
    assert weights.shape == (200, 1, 16, 16)
    assert weights.unique().tolist() == [0, 1]
    assert abs(weights.mean() - 0.5) < 4 * 0.5 / (200 * 256) ** 0.5
    torch.testing.assert_close(batch.images, whole.images * weights)
    # Pixels and images are independent of each other.
    assert abs(torch.corrcoef(weights.flatten(1).T).triu(1)).max() < 0.35
    for epoch in (0, 1):
        for part in Batches(split, 50, 0).iterate(epoch):
            assert torch.equal(present(part.weights), weights[part.indices])


def test_one_pixel_is_always_kept() -> None:
    batch = batch_of({"sprites": {"count": 50, "size": 8}}, missing=0.999)
    assert present(batch.weights).flatten(1).sum(1).min() >= 1


def test_weights_follow_slices_and_samples() -> None:
    batch = batch_of({"sprites": {"count": 6, "size": 8}}, missing=0.5)
    weights = present(batch.weights)
    assert torch.equal(torch.cat([present(part.weights) for part in batch.split(4)]), weights)
    assert torch.equal(present(batch.repeated(3).weights), weights.repeat_interleave(3, 0))


def test_images_without_an_observed_value_are_skipped(tmp_path: Path) -> None:
    values = RANDOM.random((3, 4, 4)).astype(np.float32)
    values[1] = np.nan
    np.save(tmp_path / "a.npy", values)
    split = open_split(DataConfig(source=str(tmp_path / "a.npy"), missing="nan"), "all")
    assert len(split) == 2
    assert "missing" in dict(split.skipped)["000001"]


@pytest.mark.parametrize(("options", "match"), [({"size": 8}, "resized"), ({"missing": "mask"}, "no array of masks")])
def test_what_cannot_be_is_refused(tmp_path: Path, options: dict[str, Any], match: str) -> None:
    np.save(tmp_path / "a.npy", np.where(MASK, 0.5, np.nan))
    with pytest.raises(DataError, match=match):
        batch_of(str(tmp_path / "a.npy"), **{"missing": "nan", **options})


def test_masks_of_another_shape_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.zeros((6, 4, 5), np.uint8), mask=MASK[:, :3])
    with pytest.raises(DataError, match="6×4×5"):
        batch_of(str(tmp_path / "a.npz"), missing="mask")


def test_augmentation_is_refused() -> None:
    with pytest.raises(ValueError, match="augment"):
        DataConfig(source="digits", missing=0.5, augment={"flip": 0.5})


def test_nan_in_given_arrays() -> None:
    values = np.where(MASK, 0.5, np.nan)[:, None]
    given = GivenData(values)
    config = DataConfig(source={"given": given.recorded()}, validation=0)
    with pytest.raises(ConfigError, match=r"data\.missing: nan"):
        given.configure(config)
    split = given.configure(config.model_copy(update={"missing": "nan"})).split("train")
    batch = next(in_order(split, 6))
    np.testing.assert_array_equal(present(batch.weights)[:, 0], MASK)
    np.testing.assert_array_equal(batch.images[:, 0], np.where(MASK, 0.5, 0))
