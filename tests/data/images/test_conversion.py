from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from convae.core.errors import DataError
from convae.data import load, load_and_preprocess, preprocess, to_numpy, to_pil, to_tensor
from convae.data.images.conversion import batchable_values, preprocess_batch
from convae.data.images.pixels import Interpolation, ResizeMode, picture

QUADRANTS: np.ndarray = np.kron(np.array([[0, 80], [160, 240]], np.uint8), np.ones((8, 8), np.uint8))
"""16×16, a level in each quarter."""


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "I;16", "I"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_every_mode_becomes_gray_rgb_and_rgba(photo: Callable[..., Image.Image], mode: str, channels: int) -> None:
    if mode in {"I;16", "I"}:
        image = Image.fromarray(
            (np.asarray(photo().convert("L")).astype(np.uint16) * 257).astype(
                mode.replace("I;16", "u2").replace("I", "i4")
            )
        )
        assert image.mode == mode
    else:
        image = photo()
        if mode in {"P", "PA"}:
            image = image.quantize(256)
        image = image if image.mode == mode else image.convert("L" if mode == "LA" else image.mode).convert(mode)
    pixels = preprocess(image, (30, 40), channels=channels)
    assert pixels.shape == (30, 40, channels)
    assert pixels.dtype == np.uint8
    gray = np.asarray(photo().convert("L")).astype(float)
    if mode != "1":
        got = np.asarray(to_pil(pixels.astype(np.uint8)).convert("L")).astype(float)
        assert np.abs(got - gray).mean() < 6
    if channels == 4:
        assert (pixels[..., 3] == 255).all()


def test_channels_left_open_follow_the_image(photo: Callable[..., Image.Image]) -> None:
    assert preprocess(photo(mode="L"), (8, 8)).shape == (8, 8, 1)
    assert preprocess(photo(mode="P"), (8, 8)).shape == (8, 8, 3)
    assert preprocess(np.zeros((8, 8, 4), np.uint8), (8, 8)).shape == (8, 8, 4)


def test_sixteen_bits_are_scaled_by_their_range(tmp_path: Path) -> None:
    values = np.array([[0, 257, 257 * 128, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(load_and_preprocess(tmp_path / "deep.png", (1, 4))[..., 0], [[0, 1, 128, 255]])


@pytest.mark.parametrize("values", [np.full((4, 4), 1.5, np.float32), np.full((4, 4), 70000, np.int32)])
def test_values_outside_the_range_of_their_type_are_refused_with_the_remedy(values: np.ndarray) -> None:
    with pytest.raises(DataError, match=f"{values.max():g}.*outside.*`range`"):
        preprocess(Image.fromarray(values), (4, 4))


def test_floats_that_are_shares_are_taken_as_those() -> None:
    pixels = preprocess(Image.fromarray(np.full((4, 4), 0.25, np.float32)), (2, 2), kind="float32")
    np.testing.assert_array_equal(pixels, np.full((2, 2, 1), 0.25, np.float32))


@pytest.mark.parametrize(("given", "wanted"), [(1, 3), (1, 4), (3, 1), (3, 4), (4, 1), (4, 3)])
@pytest.mark.parametrize("kind", ["uint16", "float32"])
def test_deep_images_change_their_channels_as_shallow_ones_do_without_losing_bits(
    given: int, wanted: int, kind: str
) -> None:
    shallow = np.random.default_rng(0).integers(0, 256, (8, 6, given), np.uint8)
    deep: np.ndarray = shallow.astype(np.uint16) * 257 if kind == "uint16" else shallow / np.float32(255)
    got = preprocess(deep, (8, 6), channels=wanted)
    assert got.dtype == kind
    shares = got / (65535 if kind == "uint16" else 1)
    np.testing.assert_allclose(shares, preprocess(shallow, (8, 6), channels=wanted) / 255, atol=1.2 / 255)
    fine = np.full((4, 4, given), 40001 if kind == "uint16" else 0.610373, kind)
    assert (
        abs(float(preprocess(fine, (2, 2), channels=wanted)[0, 0, 0]) / float(fine[0, 0, 0]) - 1) < 1e-5 or given == 4
    )


def test_transparency_lies_over_white_or_is_kept() -> None:
    clear = Image.new("RGBA", (4, 4), (200, 0, 0, 0))
    assert (preprocess(clear, (4, 4), channels=3) == 255).all()
    assert (preprocess(clear, (4, 4), channels=1) == 255).all()
    np.testing.assert_array_equal(preprocess(clear, (4, 4), channels=4)[0, 0], [200, 0, 0, 0])
    palette = Image.new("P", (4, 4), 3)
    palette.info["transparency"] = 3
    assert (preprocess(palette, (4, 4), channels=3) == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, suffix: str) -> None:
    upright = Image.fromarray(QUADRANTS[:12])  # 12 high, 16 wide
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"quality": 95} if suffix in {"jpg", "webp"} else {}
    stored.save(tmp_path / f"turned.{suffix}", exif=exif, **options)
    got = load(tmp_path / f"turned.{suffix}").convert("L")
    assert got.size == (16, 12)
    assert np.abs(np.asarray(got).astype(int) - QUADRANTS[:12]).mean() < 3


def test_damaged_exif_does_not_cost_the_image(tmp_path: Path, photo: Callable[..., Image.Image]) -> None:
    photo().save(tmp_path / "odd.jpg", exif=b"Exif\0\0not a TIFF header")
    assert load(tmp_path / "odd.jpg").size == (40, 30)


def test_crop_keeps_the_center_and_the_aspect() -> None:
    wide = np.zeros((16, 48, 1), np.uint8)
    wide[:, 16:32] = 255
    np.testing.assert_array_equal(preprocess(wide, (16, 16), resize_mode="crop"), 255)
    # Halved, a vertical bar of 8 pixels in a tall image is a bar of 4.
    tall = np.zeros((40, 32, 1), np.uint8)
    tall[:, 12:20] = 255
    columns = preprocess(tall, (16, 16), resize_mode="crop")[8, :, 0] > 127
    assert columns.sum() == 4


def test_pad_shows_everything_between_black_bars() -> None:
    white = np.full((16, 48, 1), 255, np.uint8)
    padded = preprocess(white, (12, 12), resize_mode="pad")[..., 0]
    np.testing.assert_array_equal(padded[4:8], 255)
    np.testing.assert_array_equal(np.delete(padded, range(4, 8), axis=0), 0)


def test_pad_keeps_a_line_of_an_extreme_aspect() -> None:
    assert preprocess(np.full((1, 500, 1), 255, np.uint8), (8, 8), resize_mode="pad").any()


def test_squash_shows_everything_distorted() -> None:
    squashed = preprocess(np.dstack([QUADRANTS] * 3)[:, :, :], (4, 8), resize_mode="squash")
    np.testing.assert_allclose(squashed[[0, 0, -1, -1], [0, -1, 0, -1], 0], [0, 80, 160, 240], atol=8)


def test_downsizing_is_antialiased() -> None:
    checkers = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)[..., None]
    small = preprocess(checkers, (8, 8))
    assert np.abs(small.astype(int) - 127).max() < 12


@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    into=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    resize_mode=st.sampled_from(["crop", "pad", "squash"]),
    level=st.integers(0, 255),
)
def test_a_flat_image_stays_flat_at_any_size(
    size: tuple[int, int], into: tuple[int, int], resize_mode: ResizeMode, level: int
) -> None:
    pixels = preprocess(np.full((*size, 3), level, np.uint8), into, resize_mode=resize_mode)
    assert pixels.shape == (*into, 3)
    assert set(np.unique(pixels)) <= ({level, 0} if resize_mode == "pad" else {level})
    assert (pixels == level).any()


def test_pixels_of_the_right_size_are_not_touched() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    assert preprocess(pixels, (5, 7)) is pixels
    np.testing.assert_array_equal(preprocess(to_pil(pixels), (5, 7)), pixels)


def test_other_numbers_of_channels_are_resized_but_never_converted() -> None:
    layers = np.random.default_rng(0).integers(0, 256, (8, 8, 6), np.uint8)
    resized = preprocess(layers, (4, 4))
    for channel in range(6):
        np.testing.assert_array_equal(resized[..., channel], preprocess(layers[..., [channel]], (4, 4))[..., 0])
    with pytest.raises(DataError, match="1, 3 or 4 channels"):
        preprocess(layers, (8, 8), channels=3)
    with pytest.raises(DataError, match=r"gray.*not 2"):
        preprocess(layers[..., :3], (8, 8), channels=2)


def test_only_pictures_can_be_resized() -> None:
    volume = np.zeros((4, 4, 4, 1), np.uint8)
    assert preprocess(volume, (4, 4, 4)) is volume
    with pytest.raises(DataError, match="cannot be resized to 2×2×2"):
        preprocess(volume, (2, 2, 2))
    with pytest.raises(DataError, match="height and a width"):
        preprocess(to_pil(np.zeros((4, 4, 1), np.uint8)), (4,))


def test_a_large_jpeg_decoded_small_looks_the_same(tmp_path: Path, photo: Callable[..., Image.Image]) -> None:
    photo(1600, 1200).save(tmp_path / "large.jpg", quality=95)
    near = load(tmp_path / "large.jpg", near=(32, 32))
    assert 64 <= min(near.size) < 1200
    quick, slow = preprocess(near, (32, 32)), preprocess(load(tmp_path / "large.jpg"), (32, 32))
    assert np.abs(quick.astype(int) - slow).max() <= 3


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "tif", "bmp", "webp", "ppm"])
def test_truncated_files_are_refused_with_their_name(
    tmp_path: Path, photo: Callable[..., Image.Image], suffix: str
) -> None:
    path = tmp_path / f"cut.{suffix}"
    photo(64, 64).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=rf"cut\.{suffix}: ."):
        load(path)


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("not pixels")
    for name, reason in (
        ("empty.png", "not an image"),
        ("text.png", "not an image"),
        ("none.png", "No such file"),
        ("", "directory"),
    ):
        with pytest.raises(DataError, match=reason):
            load(tmp_path / name)


def test_giant_images_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    Image.new("1", (2000, 1000)).save(tmp_path / "giant.png")
    with pytest.raises(DataError, match=r"giant\.png: 2000×1000 pixels are more than 1.5 megapixels"):
        load(tmp_path / "giant.png", megapixels=1.5)
    assert load(tmp_path / "giant.png", megapixels=2.0).size == (2000, 1000)


@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 6), st.sampled_from([1, 3, 4]))))
def test_pixels_survive_the_way_to_a_tensor_and_back(pixels: np.ndarray) -> None:
    tensor = to_tensor(pixels)
    assert tensor.shape == (pixels.shape[2], *pixels.shape[:2])
    np.testing.assert_array_equal(tensor.numpy(), np.moveaxis(pixels, -1, 0).astype(np.float32) / np.float32(255))
    np.testing.assert_array_equal(to_numpy(tensor), pixels)
    np.testing.assert_array_equal(np.asarray(to_pil(tensor)).reshape(pixels.shape), pixels)


def test_a_path_a_picture_and_an_array_give_the_same_tensor(tmp_path: Path, photo: Callable[..., Image.Image]) -> None:
    photo().save(tmp_path / "a.png")
    from_path = to_tensor(tmp_path / "a.png")
    assert from_path.shape == (3, 30, 40)
    assert torch.equal(from_path, to_tensor(str(tmp_path / "a.png")))
    assert torch.equal(from_path, to_tensor(photo()))
    assert torch.equal(from_path, to_tensor(np.asarray(photo())))


def test_arrays_of_other_types_become_tensors_by_their_range() -> None:
    assert to_tensor(np.array([[0, 65535]], np.uint16)).tolist() == [[[0.0, 1.0]]]
    assert to_tensor(np.array([[0.25, 1.0]])).tolist() == [[[0.25, 1.0]]]
    for wrong in (np.array([[-1]]), np.array([[1.5]]), np.array([[np.nan]])):
        with pytest.raises(DataError, match="floats in"):
            to_tensor(wrong)


@pytest.mark.parametrize("resize_mode", ["crop", "pad", "squash"])
def test_gray_in_three_channels_is_the_gray_three_times(
    photo: Callable[..., Image.Image], resize_mode: ResizeMode
) -> None:
    gray, rgb = (
        preprocess(photo(mode="L"), (16, 16), channels=channels, resize_mode=resize_mode) for channels in (1, 3)
    )
    np.testing.assert_array_equal(rgb, np.repeat(gray, 3, axis=-1))
    np.testing.assert_array_equal(
        rgb, preprocess(photo(mode="L").convert("RGB"), (16, 16), channels=3, resize_mode=resize_mode)
    )


@pytest.mark.parametrize(("size", "into"), [((218, 178), (64, 64)), ((33, 50), (64, 20)), ((600, 400), (16, 48))])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("interpolation", get_args(Interpolation))
def test_resizing_is_that_of_pillow(
    photo: Callable[..., Image.Image],
    interpolation: Interpolation,
    mode: str,
    size: tuple[int, int],
    into: tuple[int, int],
) -> None:
    image = photo(size[1], size[0], mode)
    if mode == "RGBA":
        image.putalpha(photo(size[1], size[0], "L", seed=1).point(lambda level: 2 * level))
    got = preprocess(image, into, channels=len(mode), resize_mode="squash", interpolation=interpolation)
    oracle = np.asarray(image.resize(into[::-1], Image.Resampling[interpolation.upper()])).reshape(got.shape)
    visible = oracle[..., -1:] > 100 if mode == "RGBA" else True
    assert (np.abs(got.astype(int) - oracle) * visible).max() <= (3 if mode == "RGBA" else 1)


@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    into=st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
def test_a_mirrored_image_comes_out_mirrored_by_crop(size: tuple[int, int], into: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 1), np.uint8)
    upright, mirrored = preprocess(pixels, into), preprocess(np.ascontiguousarray(pixels[::-1, ::-1]), into)
    assert np.abs(upright.astype(int) - mirrored[::-1, ::-1]).max() <= 2


def test_a_hair_of_extreme_aspect_costs_no_memory() -> None:
    assert preprocess(np.full((1, 100_000, 1), 9, np.uint8), (64, 64)).tolist() == [[[9]] * 64] * 64


@pytest.mark.parametrize("resize_mode", ["crop", "pad", "squash"])
@pytest.mark.parametrize(("shape", "into"), [((109, 89, 3), (64, 64)), ((8, 8, 1), (16, 16)), ((9, 30, 3), (9, 7))])
def test_images_of_one_shape_come_out_together_as_each_would_alone(
    resize_mode: ResizeMode, shape: tuple[int, int, int], into: tuple[int, int]
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, *shape), np.uint8)
    given = [batchable_values(picture(image) if place % 2 else image, shape[-1]) for place, image in enumerate(images)]
    together = preprocess_batch([image for image in given if image is not None], into, resize_mode)
    alone = [preprocess(image, into, resize_mode=resize_mode) for image in images]
    np.testing.assert_array_equal(together, np.stack(alone))


@pytest.mark.parametrize(
    ("image", "channels"),
    [
        (np.zeros((4, 4, 3), np.uint8), 1),
        (np.zeros((4, 4, 4), np.uint8), 4),
        (np.zeros((4, 4, 3), np.uint16), 3),
        (np.zeros((600, 600, 3), np.uint8), 3),
        (Image.new("L", (4, 4)), 3),
        (Image.new("RGBA", (4, 4)), 4),
    ],
    ids=["fewer channels", "transparent", "deep", "large", "gray picture", "transparent picture"],
)
def test_what_needs_more_than_resizing_goes_alone(image: Image.Image | np.ndarray, channels: int) -> None:
    assert batchable_values(image, channels) is None


def test_a_number_is_a_square_and_a_size_that_cannot_be_is_named(
    tmp_path: Path, photo: Callable[..., Image.Image]
) -> None:
    photo().save(tmp_path / "a.png")
    square = load_and_preprocess(tmp_path / "a.png", 8)
    np.testing.assert_array_equal(square, load_and_preprocess(tmp_path / "a.png", (8, 8)))
    for size in (0, (4, -1)):
        with pytest.raises(DataError, match="at least one pixel along each axis"):
            load_and_preprocess(tmp_path / "a.png", size)
