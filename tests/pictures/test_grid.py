from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from convae.core.errors import ConvaeError, DataError, ShapeError
from convae.pictures.grid import compare, grid, pairs
from convae.pictures.sheet import GAP, MARGIN

LONG = "an exceptionally long label with Donaudampfschifffahrtsgesellschaft"


def noise(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, dtype=np.uint8)


def pixels(picture: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(picture)


def find(picture: Image.Image, image: NDArray[np.uint8]) -> tuple[int, int]:
    """Where an image stands on a sheet, as x and y; it must stand there exactly once."""
    page = pixels(picture)
    height, width = image.shape[:2]
    windows = np.lib.stride_tricks.sliding_window_view(page, (height, width, 3))[:, :, 0]
    corners = np.argwhere((windows[:, :, 0, 0] == image[0, 0]).all(axis=2))  # not all of each window, of which are many
    (found,) = [corner for corner in corners if np.array_equal(windows[tuple(corner)], image)]
    return int(found[1]), int(found[0])


@given(
    count=st.integers(1, 9),
    columns=st.integers(1, 5),
    scale=st.integers(1, 4),
    h=st.integers(1, 6),
    w=st.integers(1, 6),
)
def test_every_pixel_becomes_a_square_in_its_place(count: int, columns: int, scale: int, h: int, w: int) -> None:
    images = noise(count, 3, h, w)
    picture = grid(images, columns=columns, scale=scale)
    page = pixels(picture)
    for index, image in enumerate(images):
        x = MARGIN + index % min(columns, count) * (w * scale + GAP)
        y = MARGIN + index // min(columns, count) * (h * scale + GAP)
        shown = page[y : y + h * scale, x : x + w * scale]
        np.testing.assert_array_equal(shown, image.transpose(1, 2, 0).repeat(scale, 0).repeat(scale, 1))


def test_rows_can_have_different_lengths() -> None:
    images = noise(6, 3, 5, 4)
    picture = grid(images, row_lengths=[1, 3, 2], captions=list("abcdef"), row_labels=["x", "y", "z"], scale=7)
    places = [find(picture, image.transpose(1, 2, 0).repeat(7, 0).repeat(7, 1)) for image in images]
    across = sorted({x for x, _ in places})
    down = sorted({y for _, y in places})
    assert [(across.index(x), down.index(y)) for x, y in places] == [(0, 0), (0, 1), (1, 1), (2, 1), (0, 2), (1, 2)]
    for wrong in ([], [6, 0], [2, 3]):
        with pytest.raises(DataError, match="row_lengths"):
            grid(images, row_lengths=wrong)


@pytest.mark.parametrize(("count", "size"), [(40, 8), (64, 28), (12, 28), (25, 64), (100, 32)])
def test_small_images_fill_a_screen(count: int, size: int) -> None:
    assert 800 <= grid(noise(count, 1, size, size)).width <= 1200


def test_one_small_image_is_not_blown_up_beyond_sense() -> None:
    assert grid(noise(1, 1, 8, 8)).width == 256 + 2 * MARGIN


def test_huge_images_are_averaged_down_to_a_screen() -> None:
    picture = grid(np.full((2, 1, 40, 3000), 0.2), columns=2)
    assert picture.width < 4200
    assert pixels(picture)[MARGIN + 5, MARGIN + 5].tolist() == [51, 51, 51]


@pytest.mark.parametrize("sizes", [(8, 8), (40, 5), (100,), (4, 6, 6)])
@pytest.mark.parametrize("columns", [1, 3])
def test_no_label_is_cut_off(sizes: tuple[int, ...], columns: int) -> None:
    images = noise(6, 2, *sizes)
    texts = [LONG] * 6
    for picture in (
        grid(images, row_labels=texts[: 6 // columns], column_labels=texts[:columns], captions=texts, title=LONG * 5),
        pairs(images, images, columns=columns, captions=texts, title=LONG),
        grid(images, columns=6, captions=texts),
    ):
        page = pixels(picture)
        border = np.concatenate([page[:9].ravel(), page[-9:].ravel(), page[:, :9].ravel(), page[:, -9:].ravel()])
        assert (border == 255).all()


def test_labels_take_room_of_their_own_and_leave_the_images_whole() -> None:
    images = noise(4, 3, 9, 9)
    picture = grid(images, columns=2, row_labels=["a", LONG], column_labels=["b", LONG], captions=[LONG] * 4, scale=1)
    places = [find(picture, image.transpose(1, 2, 0)) for image in images]
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = places
    assert (x0, x1) == (x2, x3)
    assert (y0, y2) == (y1, y3)


def test_a_pair_stands_one_above_the_other_and_pairs_wrap() -> None:
    originals, reconstructions = noise(5, 3, 7, 6), noise(5, 3, 7, 6)[::-1] // 2
    picture = pairs(originals, reconstructions, columns=3, captions=[f"{n} dB" for n in range(5)], scale=1)
    above = [find(picture, image.transpose(1, 2, 0)) for image in originals]
    below = [find(picture, image.transpose(1, 2, 0)) for image in reconstructions]
    for (x, y), (under_x, under_y) in zip(above, below, strict=True):
        assert under_x == x
        assert under_y == y + 7 + GAP or under_y > y + 7
    assert above[3][0] == above[0][0]
    assert above[3][1] > below[0][1]


def test_rows_of_different_channel_counts_go_together() -> None:
    gray, color = noise(3, 1, 20, 20), noise(3, 3, 20, 20)
    picture = compare({"gray": gray, "color": color}, scale=1)
    x, y = find(picture, color[0].transpose(1, 2, 0))
    assert find(picture, gray[0].transpose(1, 2, 0).repeat(3, axis=2)) == (x, y - 20 - GAP)


def test_signals_are_drawn_over_their_originals() -> None:
    originals = np.full((2, 1, 30), 0.8)
    alone = pixels(compare({"original": originals}))
    together = pixels(pairs(originals, originals - 0.6))
    blue = (together[..., 2] > together[..., 0].astype(int) + 100).sum()
    pale = (together[..., 2] > together[..., 0].astype(int) + 40).sum() - blue
    assert alone.shape[1] == together.shape[1]
    assert min(blue, pale) > 500


def test_the_number_of_columns_leaves_few_places_empty() -> None:
    one = grid(noise(1, 1, 9, 9), scale=1).width - 2 * MARGIN
    for count, columns in [(8, 4), (10, 5), (16, 4), (13, 7), (2, 2)]:
        assert grid(noise(count, 1, 9, 9), scale=1).width == 2 * MARGIN + columns * (one + GAP) - GAP


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: grid(noise(0, 1, 4, 4)), DataError, "at least one image"),
        (lambda: grid(np.full((1, 1, 2, 2), 3.0)), DataError, "3 to 3"),
        (lambda: grid(noise(4, 1, 4, 4), columns=0), DataError, "columns must be at least 1"),
        (lambda: pairs(noise(4, 1, 4, 4), noise(4, 1, 4, 4), columns=0), DataError, "columns must be at least 1"),
        (lambda: grid(noise(4, 1, 4, 4), scale=0), DataError, "scale must be at least 1"),
        (lambda: grid(noise(4, 1, 4, 4), columns=2, row_labels=["a"]), DataError, "2 labels.*rows, got 1"),
        (lambda: grid(noise(4, 1, 4, 4), captions=["a"]), DataError, "4 labels.*images, got 1"),
        (lambda: pairs(noise(2, 1, 4, 4), noise(2, 1, 4, 5)), ShapeError, "row 'reconstruction'.*2×1×4×5"),
        (lambda: pairs(noise(2, 1, 4, 4), noise(3, 1, 4, 4)), ShapeError, "row 'reconstruction'.*row 'original'"),
        (lambda: pairs(noise(2, 1, 9), noise(2, 2, 9)), ShapeError, "expected 1 channel, got 2"),
        (lambda: compare({}), DataError, "at least one row"),
    ],
)
def test_what_cannot_be_shown_is_said_in_one_sentence(call, error: type[ConvaeError], message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
