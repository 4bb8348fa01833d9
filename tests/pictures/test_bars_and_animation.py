from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.patches import Rectangle
from PIL import Image, ImageSequence

from convae.core.errors import DataError, OutputError
from convae.pictures.animation import animate
from convae.pictures.bars import bars


def test_bars_stand_from_the_largest_to_the_smallest() -> None:
    (axes,) = bars([1.0, 3.0, 2.0], x_label="rank", y_label="nats").axes
    assert [bar.get_height() for bar in axes.patches if isinstance(bar, Rectangle)] == [3, 2, 1]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("rank", "nats")


@pytest.mark.parametrize("values", [[], [1.0, float("nan")]])
def test_bars_need_finite_values(values: list[float]) -> None:
    with pytest.raises(DataError, match="at least one value"):
        bars(values, x_label="", y_label="")


def test_an_animation_goes_there_and_back_without_loss(tmp_path: Path) -> None:
    images = np.linspace(0, 255, 4 * 3 * 8 * 6).astype(np.uint8).reshape(4, 3, 8, 6)
    path = animate(images, str(tmp_path / "way.webp"))
    with Image.open(path) as film:
        assert len(list(ImageSequence.Iterator(film))) == 6  # 0 1 2 3 2 1
        assert film.size == (6 * 32, 8 * 32)
        film.seek(4)
        shown = np.asarray(film.convert("RGB"))[::32, ::32]
    assert np.array_equal(shown, images[2].transpose(1, 2, 0))


def test_one_image_is_a_film_of_one(tmp_path: Path) -> None:
    with Image.open(animate(np.zeros((1, 1, 300, 300)), tmp_path / "one.webp")) as film:
        assert film.size == (300, 300)


def test_films_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"\.webp, got '\.gif'"):
        animate(np.zeros((2, 1, 4, 4)), tmp_path / "way.gif")
    with pytest.raises(DataError, match="1 to"):
        animate(np.zeros((2, 1, 4, 4)), tmp_path / "way.webp", milliseconds=0)
