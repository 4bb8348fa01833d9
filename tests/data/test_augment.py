from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from convae.core.errors import ConfigError
from convae.data import Augmentation, AugmentConfig, Batches, DataConfig, in_order, open_split
from convae.data.augment import uniform

EVERYTHING = AugmentConfig(
    flip=0.5, crop=2, shift=0.1, zoom=0.2, shear=0.1, rotation=20, brightness=0.3, contrast=0.3, saturation=0.3, hue=30
)


def smooth(count: int = 6, channels: int = 3, height: int = 24, width: int = 32) -> torch.Tensor:
    """Images of low frequencies, which interpolation hardly changes."""
    y, x = torch.meshgrid(torch.linspace(0, 3, height), torch.linspace(0, 3, width), indexing="ij")
    layers = [0.5 + 0.3 * torch.sin(x * (1 + c) + n) * torch.cos(y + c) for n in range(count) for c in range(channels)]
    images = torch.stack(layers).view(count, channels, height, width)
    return images.contiguous(memory_format=torch.channels_last)


@settings(max_examples=10)
@given(order=st.permutations(range(6)), seed=st.integers(0, 2**40), epoch=st.integers(0, 99))
def test_an_image_changes_the_same_whatever_batch_it_is_in(order: list[int], seed: int, epoch: int) -> None:
    images, change = smooth(), Augmentation(EVERYTHING, seed)
    together = change(images, torch.arange(6), epoch)
    rows = torch.tensor(order)
    torch.testing.assert_close(change(images[rows], rows, epoch), together[rows], atol=1e-6, rtol=0)
    alone = change(images[2:3], torch.tensor([2]), epoch)
    torch.testing.assert_close(alone, together[2:3], atol=1e-6, rtol=0)


def test_epochs_seeds_and_images_differ() -> None:
    image = smooth(1).expand(4, -1, -1, -1)
    base = Augmentation(EVERYTHING, 0)(image, torch.arange(4), 0)
    assert len({tensor.sum().item() for tensor in base}) == 4
    for other in (
        Augmentation(EVERYTHING, 1)(image, torch.arange(4), 0),
        Augmentation(EVERYTHING, 0)(image, torch.arange(4), 1),
    ):
        assert not torch.equal(other, base)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_stay_images_of_their_shape_and_layout(channels: int) -> None:
    images = smooth(channels=channels)
    changed = Augmentation(EVERYTHING, 0)(images, torch.arange(6), 0)
    assert changed.shape == images.shape
    assert changed.is_contiguous(memory_format=torch.channels_last)
    assert 0 <= changed.min() < changed.max() <= 1


def test_nothing_happens_by_default_or_at_strength_0() -> None:
    images = smooth()
    assert Augmentation(AugmentConfig(), 0)(images, torch.arange(6), 0) is images
    weak = Augmentation(EVERYTHING, 0)(images, torch.arange(6), 0, strength=0.0)
    torch.testing.assert_close(weak, images, atol=1e-5, rtol=0)


def test_a_flip_is_exact_and_as_frequent_as_asked() -> None:
    images = torch.rand(4000, 1, 3, 4)
    changed = Augmentation(AugmentConfig(flip=0.25), 0)(images, torch.arange(4000), 0)
    flipped = (changed == images.flip(-1)).all(dim=(1, 2, 3))
    assert ((changed == images).all(dim=(1, 2, 3)) ^ flipped).all()
    assert stats.binomtest(int(flipped.sum()), 4000, 0.25).pvalue > 1e-4


def test_a_crop_moves_whole_pixels_evenly_and_continues_the_border() -> None:
    image = torch.arange(80.0).view(1, 1, 8, 10) / 80
    changed = Augmentation(AugmentConfig(crop=2), 0)(image.expand(2000, -1, -1, -1), torch.arange(2000), 0)
    counts = np.zeros((5, 5))
    padded = torch.nn.functional.pad(image, (2, 2, 2, 2), mode="replicate")
    for down in range(5):
        for right in range(5):
            same = (changed == padded[:, :, down : down + 8, right : right + 10]).all(dim=(1, 2, 3))
            counts[down, right] = int(same.sum())
    assert counts.sum() == 2000
    assert stats.chisquare(counts.ravel()).pvalue > 1e-4


def inner(images: torch.Tensor) -> torch.Tensor:
    return images[..., 8:-8, 8:-8]


@pytest.mark.parametrize(
    ("config", "undo"),
    [
        (AugmentConfig(rotation=40), lambda y, x, a: (y * a.cos() - x * a.sin(), y * a.sin() + x * a.cos())),
        (AugmentConfig(zoom=0.3), lambda y, x, s: (y / (1 + s), x / (1 + s))),
        (AugmentConfig(shear=0.3), lambda y, x, s: (y, x + s * y)),
        (AugmentConfig(shift=0.15), lambda y, x, s: (y, x + s * 48)),
    ],
)
def test_maps_are_what_they_are_called_in_square_pixels(config: AugmentConfig, undo: Callable[..., Any]) -> None:
    # A picture known at every point, so that the map can be applied to the points instead, in float64.
    def picture(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return 0.5 + 0.3 * torch.sin(x / 6) * torch.cos(y / 7)

    y, x = torch.meshgrid(torch.arange(32.0).double() - 15.5, torch.arange(48.0).double() - 23.5, indexing="ij")
    image = picture(y, x).float()[None, None]
    changed = Augmentation(config, 3)(image.expand(8, -1, -1, -1), torch.arange(8), 5)
    for number in range(8):
        best = (
            min(
                float(
                    (inner(picture(*undo(y, x, torch.tensor(amount, dtype=torch.float64)))) - inner(changed[number, 0]))
                    .abs()
                    .max()
                )
                for amount in np.linspace(-0.75, 0.75, 601)
            )
            if not config.shift
            else float(_shifted(picture, y, x, changed[number, 0]))
        )
        assert best < 0.02


def _shifted(picture: Callable[..., Any], y: Tensor, x: Tensor, changed: Tensor) -> float:
    """The least difference from the picture moved along both axes."""
    moves = np.linspace(-0.15, 0.15, 61)
    return min(
        float((inner(picture(y + down * 32, x + right * 48)) - inner(changed)).abs().max())
        for down in moves
        for right in moves
    )


def test_colors_keep_gray_gray_and_the_brightness_of_all() -> None:
    config = AugmentConfig(saturation=0.5, hue=180)
    gray = torch.full((8, 3, 4, 4), 0.4)
    torch.testing.assert_close(Augmentation(config, 0)(gray, torch.arange(8), 0), gray, atol=1e-6, rtol=0)
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    colors = 0.45 + 0.1 * torch.rand(8, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    changed = Augmentation(config, 0)(colors, torch.arange(8), 0)
    torch.testing.assert_close((changed * weights).sum(1), (colors * weights).sum(1), atol=1e-5, rtol=0)
    assert (changed - colors).abs().max() > 0.02
    bright = Augmentation(AugmentConfig(brightness=0.5), 0)(gray, torch.arange(8), 0)[:, 0, 0, 0]
    assert (bright - 0.4).abs().max() <= 0.2
    assert bright.std() > 0.02


def test_transparency_is_not_colored() -> None:
    images = torch.rand(4, 4, 5, 5)
    changed = Augmentation(AugmentConfig(brightness=0.5, hue=90), 0)(images, torch.arange(4), 0)
    assert torch.equal(changed[:, 3], images[:, 3])


def test_signals_and_volumes_can_be_flipped_and_nothing_else() -> None:
    signals = torch.rand(4, 1, 7)
    assert Augmentation(AugmentConfig(flip=1.0), 0)(signals, torch.arange(4), 0).equal(signals.flip(-1))
    with pytest.raises(ConfigError, match=r"data\.augment.* flip only"):
        Augmentation(AugmentConfig(crop=1), 0)(signals, torch.arange(4), 0)


def test_the_numbers_are_even_and_independent_of_each_other() -> None:
    indices = torch.arange(20000)
    drawn = [uniform(12345, indices, number).double().numpy() for number in range(4)]
    drawn.append(uniform(12346, indices, 0).double().numpy())
    for values in drawn:
        assert stats.kstest(values, "uniform").pvalue > 1e-4
        assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.03
    assert np.abs(np.corrcoef(drawn) - np.eye(5)).max() < 0.03
    assert uniform(7, torch.tensor([0, 5, 2**33]), 3).tolist() == uniform(7, torch.tensor([0, 5, 2**33]), 3).tolist()


def test_only_training_batches_are_changed(pictures: Path) -> None:
    config = DataConfig(source=pictures, augment=AugmentConfig(flip=1.0), validation=0.3)
    train, validation = open_split(config, "train"), open_split(config, "validation")
    for split, flipped in ((train, True), (validation, False)):
        plain = torch.cat([batch.images for batch in in_order(split, 4)])
        for batch in Batches(split, 2, seed=0).iterate(0):
            expected = plain[batch.indices]
            assert torch.equal(batch.images, expected.flip(-1) if flipped else expected)
    (first, *_), (rest, *_) = Batches(train, 2, 0).iterate(1), Batches(train, 2, 0).iterate(1, start_step=0)
    assert torch.equal(first.images, rest.images)


def test_a_shear_is_one_at_any_rotation() -> None:
    # Where values are the coordinates themselves, those of the changed images give the map.
    y, x = torch.meshgrid(torch.arange(48.0) - 23.5, torch.arange(64.0) - 31.5, indexing="ij")
    points = torch.stack([x, y])
    change = Augmentation(AugmentConfig(rotation=180, shear=0.5), 3)
    changed = 80 * (change((points / 80 + 0.5).expand(40, -1, -1, -1), torch.arange(40), 5) - 0.5)
    center = (slice(None), slice(18, 30), slice(26, 38))
    for each in changed:
        found = torch.linalg.lstsq(points[center].flatten(1).T, each[center].flatten(1).T).solution.T
        assert float(torch.linalg.det(found)) == pytest.approx(1, abs=1e-3)  # no change of area
        assert float(found[:, 0].norm()) == pytest.approx(1, abs=1e-3)  # rows keep their length
