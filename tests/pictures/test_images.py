from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from convae.core.errors import DataError, ShapeError
from convae.pictures.images import to_uint8


@given(
    channels=st.integers(1, 7),
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=3),
    count=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_any_channel_count_and_dimension_gives_rgb_pixels(
    channels: int, sizes: list[int], count: int, seed: int
) -> None:
    images = np.random.default_rng(seed).random((count, channels, *sizes))
    pixels = to_uint8(images)
    assert pixels.dtype == np.uint8
    assert pixels.shape[0] == count
    assert pixels.shape[3] == 3
    if len(sizes) == 2:
        assert pixels.shape[1:3] == tuple(sizes)


def test_gray_levels_survive_the_way_through_floats() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    for images in (levels, levels / 255, (levels / 255).astype(np.float32), torch.from_numpy(levels) / 255):
        np.testing.assert_array_equal(to_uint8(images), levels.transpose(0, 2, 3, 1).repeat(3, axis=3))


def test_channels_become_colors() -> None:
    pixel = np.array([0.2, 0.4, 0.6, 1.0, 0.8]).reshape(1, 5, 1, 1)
    assert to_uint8(pixel[:, :2]).tolist() == [[[[51, 102, 0]]]]
    assert to_uint8(pixel[:, :3]).tolist() == [[[[51, 102, 153]]]]
    assert to_uint8(pixel[:, :4]).tolist() == [[[[51, 102, 153]]]]
    assert to_uint8(pixel).tolist() == [[[[51, 102, 153]]]]


def test_transparent_pixels_show_the_paper() -> None:
    pixels = np.zeros((1, 4, 1, 2))
    pixels[0, 3, 0, 1] = 0.5
    assert to_uint8(pixels)[0, 0, :, 0].tolist() == [255, 128]


def test_slices_of_a_volume_stand_in_reading_order() -> None:
    volume = np.broadcast_to((np.arange(4) / 255).reshape(1, 1, 4, 1, 1), (1, 1, 4, 2, 3))
    pixels = to_uint8(volume)[0, :, :, 0]
    assert pixels.shape == (5, 7)
    assert [set(part.ravel()) for part in (pixels[:2, :3], pixels[:2, 4:], pixels[3:, :3], pixels[3:, 4:])] == [
        {0},
        {1},
        {2},
        {3},
    ]


def test_a_deep_volume_is_shown_by_nine_slices_evenly_apart() -> None:
    volume = np.broadcast_to((np.arange(90) / 255).reshape(1, 1, 90, 1, 1), (1, 1, 90, 1, 1))
    pixels = to_uint8(volume)[0, ::2, ::2, 0]
    assert pixels.ravel().tolist() == list(range(5, 90, 10))


def test_a_signal_is_drawn_from_zero_at_the_bottom_to_one_at_the_top() -> None:
    low, high = to_uint8(np.stack([np.full((1, 50), 0.1), np.full((1, 50), 0.9)]))
    blue = [np.nonzero((panel[:, :, 2] > panel[:, :, 0].astype(int) + 60).any(axis=1))[0] for panel in (low, high)]
    assert blue[0].min() > blue[1].max()


def test_tensors_of_any_floating_type_are_taken() -> None:
    half = torch.full((1, 1, 2, 2), 0.5, dtype=torch.bfloat16, requires_grad=True)
    assert to_uint8(half).max() == 128


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (np.zeros((0, 1, 4, 4)), DataError, "at least one image"),
        (np.zeros((2, 1, 0, 4)), DataError, "at least one value"),
        (np.zeros((4, 4)), ShapeError, r"\(batch, channel, \*sizes\)"),
        (np.full((1, 1, 2, 2), -1.0), DataError, "-1 to -1"),
        (np.full((1, 1, 2, 2), 255.0), DataError, "to 255"),
        (np.full((1, 1, 2, 2), np.nan), DataError, "NaN"),
        (np.zeros((1, 1, 2, 2), dtype=int), DataError, "int64"),
    ],
)
def test_what_cannot_be_shown_is_said_in_one_sentence(images: np.ndarray, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        to_uint8(images)
    assert "\n" not in str(caught.value)
