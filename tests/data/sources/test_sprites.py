from __future__ import annotations

import numpy as np
import pytest

from convae.core.errors import ConfigError
from convae.data import DataConfig, open_split
from convae.data.sources.sprites import COLORS, FACTORS, draw

MIDDLE = {"shape": 0, "scale": 5, "rotation": 0, "x": 15, "y": 15, "color": 0}


def center(image: np.ndarray) -> tuple[float, float]:
    """Where the sprite's mass is, as shares of the image: across, down."""
    mass = image.astype(float).sum(-1)
    points = (np.arange(len(image)) + 0.5) / len(image)
    return float((mass.sum(0) * points).sum() / mass.sum()), float((mass.sum(1) * points).sum() / mass.sum())


@pytest.mark.parametrize("shape", range(2))
@pytest.mark.parametrize("rotation", [0, 7, 31])
def test_the_factors_are_what_is_drawn(shape: int, rotation: int) -> None:
    for x, y in ((0, 31), (15, 3)):
        image = draw({**MIDDLE, "shape": shape, "rotation": rotation, "x": x, "y": y}, 64)
        np.testing.assert_allclose(center(image), [float(FACTORS["x"][x]), float(FACTORS["y"][y])], atol=2e-3)


def test_areas_grow_with_the_square_of_the_scale() -> None:
    areas = [draw({**MIDDLE, "scale": scale}, 64)[..., 0].sum() / 255 / 64**2 for scale in range(6)]
    np.testing.assert_allclose(areas, [(2 * 0.165 * float(scale)) ** 2 for scale in FACTORS["scale"]], rtol=0.03)


def test_a_quarter_turn_turns_the_picture() -> None:
    heart = {**MIDDLE, "shape": 2}
    turned = draw({**heart, "rotation": 10}, 64).astype(int)
    upright = draw(heart, 64)
    mirrored = [np.rot90(upright, 3, (0, 1)).astype(int), np.rot90(upright, 1, (0, 1)).astype(int)]
    differences = sorted(
        float(np.abs(np.roll(other, shift, (0, 1)) - turned).mean())
        for other in mirrored
        for shift in ((0, 0), (1, 0), (0, 1), (1, 1), (-1, 0), (0, -1))
    )
    assert differences[0] < 3 < differences[-1]


def test_colors_are_the_named_ones_and_nothing_leaves_the_image() -> None:
    for number, color in enumerate(COLORS.values()):
        assert draw({**MIDDLE, "color": number}, 64).max((0, 1)).tolist() == list(color)
    for shape in range(3):
        for rotation in range(0, 40, 5):
            for corner in ((0, 0), (31, 31)):
                image = draw({**MIDDLE, "shape": shape, "rotation": rotation, "x": corner[0], "y": corner[1]}, 64)
                assert not image[[0, -1]].any()
                assert not image[:, [0, -1]].any()


def test_a_split_carries_every_factor_and_a_larger_set_begins_with_the_smaller() -> None:
    small = open_split(DataConfig(source={"sprites": {"count": 30, "size": 32}}), "all")
    large = open_split(DataConfig(source={"sprites": {"count": 60, "size": 32}}), "all")
    other = open_split(DataConfig(source={"sprites": {"count": 30, "size": 32, "seed": 1}}, label="color"), "all")
    assert small.shape == (3, 32, 32)
    assert list(small.columns) == ["shape", "scale", "rotation", "x", "y", "color"]
    assert small.classes == ("square", "ellipse", "heart")
    assert other.classes == tuple(COLORS)
    for name, column in small.columns.items():
        assert column.classes == FACTORS[name]
        np.testing.assert_array_equal(column.values, large.columns[name].values[:30])
    np.testing.assert_array_equal(small.images(range(30)), large.images(range(30)))
    assert small.content_hash != other.content_hash
    index = 17
    factors = {name: int(column.values[index]) for name, column in small.columns.items()}
    np.testing.assert_array_equal(small.images([index])[0].movedim(0, -1), draw(factors, 32))


def test_fixed_factors_are_the_same_in_all_images_and_the_others_as_without() -> None:
    fixed = {"color": "white", "scale": 1.0}
    split = open_split(DataConfig(source={"sprites": {"count": 20, "size": 32, "fixed": fixed}}, channels=1), "all")
    free = open_split(DataConfig(source={"sprites": {"count": 20, "size": 32}}), "all")
    assert list(split.columns) == ["shape", "rotation", "x", "y"]
    for name, column in split.columns.items():
        np.testing.assert_array_equal(column.values, free.columns[name].values)
    factors = {name: int(column.values[7]) for name, column in split.columns.items()} | {"color": 0, "scale": 5}
    np.testing.assert_array_equal(split.images([7])[0, 0], draw(factors, 32)[..., 0])
    assert open_split(DataConfig(source={"sprites": {"count": 20, "fixed": {"shape": "heart"}}}), "all").labels is None


@pytest.mark.parametrize(
    ("fixed", "message"),
    [({"hue": "red"}, "unknown factor 'hue'"), ({"color": "pink"}, "unknown value of color 'pink'")],
)
def test_factors_and_values_that_there_are_not_are_refused(fixed: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_split(DataConfig(source={"sprites": {"fixed": fixed}}), "all")
