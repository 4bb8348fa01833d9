from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from narrow import present

from convae.core.errors import ConvaeError, DataError
from convae.data import DataConfig, Split, in_order, open_split
from convae.data.splits.split import SplitName

GENERATOR = np.random.default_rng(0)
PARTS_AND_ROWS: list[tuple[SplitName, slice]] = [("train", slice(4)), ("test", slice(4, 6))]


def everything(path: Path, **options: Any) -> Split:
    given = {"arrays": {"path": str(path), **options}} if options else str(path)
    return open_split(DataConfig(source=given), "all")


@pytest.mark.parametrize(
    "shape", [(5, 16), (5, 6, 7), (5, 6, 7, 3), (5, 3, 6, 7), (5, 4, 6, 5), (5, 6, 7, 8), (5, 6, 7, 8, 2)]
)
@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32", "bool"])
def test_signals_images_and_volumes_keep_their_values_and_type(
    tmp_path: Path, shape: tuple[int, ...], kind: str
) -> None:
    values = GENERATOR.random(shape)
    largest = {"uint8": 255, "uint16": 65535}.get(kind)
    array = (values > 0.5) if kind == "bool" else (values * largest).astype(kind) if largest else values.astype(kind)
    np.save(tmp_path / "a.npy", array)
    split = everything(tmp_path / "a.npy")
    (batch,) = in_order(split, 5)
    expected = array.astype(np.float64) / (largest or 1)
    if len(shape) == 5 or (len(shape) == 4 and shape[-1] == 3):
        expected = np.moveaxis(expected, -1, 1)
    elif shape[1:] not in {(3, 6, 7), (4, 6, 5)}:
        expected = expected[:, None]
    assert batch.images.shape == expected.shape
    np.testing.assert_allclose(batch.images.numpy(), expected, atol=1e-7)
    assert str(split.images([0]).dtype) == "torch." + {"bool": "uint8"}.get(kind, kind)


def test_the_axis_of_channels_can_be_named(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((5, 6, 7), np.uint8))
    assert everything(tmp_path / "a.npy", channels="first").shape == (6, 7)
    assert everything(tmp_path / "a.npy", channels="last").shape == (7, 6)
    assert everything(tmp_path / "a.npy", channels="none").shape == (1, 6, 7)


@pytest.mark.parametrize("span", [None, [0, 1], [-2, 3]])
def test_floats_outside_by_rounding_are_set_to_the_end_of_the_range(tmp_path: Path, span: list[float] | None) -> None:
    low, high = span or (0, 1)
    values = np.linspace(low, high, 32).reshape(2, 4, 4)
    values[0, 0, 0], values[1, 3, 3] = low - 1e-6, high + 1e-6
    np.save(tmp_path / "a.npy", values)
    split = everything(tmp_path / "a.npy", **({} if span is None else {"range": span}))
    pixels = np.asarray(split.images([0, 1]))
    assert (pixels.min(), pixels.max()) == (0, 1)
    values[1, 3, 3] = high + 1e-2
    np.save(tmp_path / "b.npy", values)
    ((name, reason),) = everything(tmp_path / "b.npy", **({} if span is None else {"range": span})).skipped
    assert name == "000001"
    assert f"{high + 0.01:g}" in reason


def test_other_types_and_ranges_need_a_range(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.array([[-1, 0, 3]], np.int64))
    with pytest.raises(DataError, match=r"int64 .*range"):
        everything(path)
    (batch,) = in_order(everything(path, range=[-1, 3]), 1)
    np.testing.assert_array_equal(batch.images[0, 0], [0, 0.25, 1])
    np.save(path, np.array([[0.0, 0.5], [0.5, 2.0], [np.nan, 0.0]]))
    split = everything(path)
    assert split.keys == ["000000"]
    reasons = dict(split.skipped)
    assert list(reasons) == ["000001", "000002"]
    assert "0.5 to 2, outside of [0, 1]" in reasons["000001"]
    assert "`range`" in reasons["000001"]
    assert "NaN" in reasons["000002"]


def test_packed_files_with_labels_and_parts(tmp_path: Path) -> None:
    images, labels = GENERATOR.integers(0, 256, (6, 4, 4), np.uint8), np.arange(6)
    np.savez_compressed(tmp_path / "a.npz", x=images, y=labels)
    split = everything(tmp_path / "a.npz")
    np.testing.assert_array_equal(split.images(range(6))[:, 0], images)
    np.testing.assert_array_equal(split.labels, labels)
    np.savez(tmp_path / "b.npz", faces=images, people=labels, x=images[:1])
    split = everything(tmp_path / "b.npz", images="faces", labels="people")
    np.testing.assert_array_equal(split.labels, labels)
    np.savez(tmp_path / "c.npz", test=images[4:], train=images[:4], train_labels=labels[:4], test_labels=labels[4:])
    for part, rows in PARTS_AND_ROWS:
        split = open_split(DataConfig(source=str(tmp_path / "c.npz"), validation=0), part)
        np.testing.assert_array_equal(split.images(range(len(split)))[:, 0], images[rows])
        np.testing.assert_array_equal(split.labels, labels[rows])


@pytest.mark.parametrize(
    ("images", "labels"), [("x_{}", "y_{}"), ("{}_images", "{}_labels"), ("X_{}", "Y_{}"), ("{}", "{}_y")]
)
def test_customary_names_of_parts_are_known(tmp_path: Path, images: str, labels: str) -> None:
    pixels = GENERATOR.integers(0, 256, (6, 4, 4), np.uint8)
    arrays: dict[str, Any] = {images.format("train"): pixels[:4], labels.format("train"): np.arange(4)[:, None]}
    arrays |= {images.format("test"): pixels[4:], labels.format("test"): np.arange(2)[:, None]}
    np.savez(tmp_path / "a.npz", **arrays)
    for part, rows in PARTS_AND_ROWS:
        split = open_split(DataConfig(source=str(tmp_path / "a.npz"), validation=0), part)
        np.testing.assert_array_equal(split.images(range(len(split)))[:, 0], pixels[rows])
        assert present(split.labels).tolist() == list(range(len(split)))


@pytest.mark.parametrize("kind", ["uint16", "float32", "float64"])
def test_values_of_another_byte_order_are_the_same_images(tmp_path: Path, kind: str) -> None:
    values = (GENERATOR.random((3, 4, 4)) * (60000 if kind == "uint16" else 1)).astype(kind)
    np.save(tmp_path / "native.NPY", values)  # which writes native.NPY.npy
    np.save(tmp_path / "swapped.npy", values.astype(np.dtype(kind).newbyteorder()))
    (tmp_path / "native.NPY.npy").rename(tmp_path / "native.NPY")
    native, swapped = everything(tmp_path / "native.NPY"), everything(tmp_path / "swapped.npy")
    np.testing.assert_array_equal(native.images(range(3)), swapped.images(range(3)))
    assert native.describe()["content_hash"] == swapped.describe()["content_hash"]


def test_images_of_16_bits_and_floats_are_resized(tmp_path: Path) -> None:
    for kind, level in (("uint16", 40000), ("float32", 0.625)):
        np.save(tmp_path / f"{kind}.npy", np.full((2, 8, 8), level, kind))
        split = open_split(DataConfig(source=str(tmp_path / f"{kind}.npy"), size=4), "all")
        assert split.shape == (1, 4, 4)
        np.testing.assert_allclose(split.images([0, 1]), level, rtol=1e-6)  # up to the rounding of the weights


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_objects_are_never_unpickled(tmp_path: Path, name: str) -> None:
    array = np.array([[{"x": 1}]], object)
    with (tmp_path / name).open("wb") as file:
        (np.save if name == "a.npy" else np.savez)(file, array)
    with pytest.raises(DataError, match=r"not a \.npy file of numbers|contains Python objects"):
        everything(tmp_path / name)
    (tmp_path / name).write_bytes(pickle.dumps(array))
    with pytest.raises(DataError, match=r"not a \.np[yz] file"):
        everything(tmp_path / name)


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        ({"a": np.zeros((2, 2)), "b": np.zeros((2, 2))}, {}, "array of images"),
        ({"x": np.zeros((2, 2))}, {"images": "y"}, "unknown array of images 'y'"),
        ({"x": np.zeros((2, 2))}, {"labels": "y"}, "unknown array of labels 'y'"),
        ({"x": np.zeros((2, 2)), "y": np.arange(3)}, {}, "3 labels for 2 images"),
        ({"x": np.zeros((2, 2)), "y": np.zeros(2)}, {}, "one integer or string per image"),
        ({"x": np.zeros((2, 2)), "y": np.eye(2, dtype=int)}, {}, "one integer or string per image"),
        ({"x": np.zeros((2, 2)), "y": np.full(2, 2**63, np.uint64)}, {}, "class numbers below"),
        ({"train": np.zeros((2, 2)), "x_train": np.zeros((2, 2))}, {}, "train and x_train are both images of one part"),
        ({"x": np.zeros(2)}, {}, "shape 2 is not a list of images"),
        ({"train": np.zeros((2, 2)), "test": np.zeros((2, 3))}, {}, "different shapes"),
    ],
)
def test_files_that_do_not_fit_are_refused(
    tmp_path: Path,
    arrays: dict[str, Any],
    options: dict[str, str],
    message: str,
) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ConvaeError, match=message):
        everything(tmp_path / "a.npz", **options)


def test_no_damage_of_a_packed_file_gives_a_traceback(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=GENERATOR.integers(0, 256, (3, 5, 5), np.uint8), y=np.arange(3))
    content = (tmp_path / "a.npz").read_bytes()
    for number in range(150):
        damaged = bytearray(content)
        damaged[GENERATOR.integers(len(content))] ^= 1 << int(GENERATOR.integers(8))
        path = tmp_path / f"{number}.npz"
        path.write_bytes(damaged if number % 3 else damaged[: GENERATOR.integers(len(content))])
        try:
            everything(path)
        except DataError as error:
            assert str(number) in str(error)  # either outcome is right


def notes(path: Path, **options: Any) -> str:
    return " | ".join(everything(path, **options).notes)


@pytest.mark.parametrize(
    ("shape", "facts"),
    [((8, 2, 28), ["2×28", "images"]), ((8, 5, 28, 28), ["volumes", "5×28×28"]), ((8, 3, 9, 4), ["3×9", "4 channels"])],
)
def test_guesses_are_called_guesses_with_the_option_that_decides(
    tmp_path: Path, shape: tuple[int, ...], facts: list[str]
) -> None:
    np.save(tmp_path / "a.npy", GENERATOR.integers(0, 256, shape, np.uint8))
    for fact in ("guess", "channels: first", *facts):
        assert fact in notes(tmp_path / "a.npy")
    for channels in ("first", "last", "none"):
        assert "guess" not in notes(tmp_path / "a.npy", channels=channels)


@pytest.mark.parametrize("shape", [(8, 28), (8, 28, 28), (8, 28, 28, 3), (8, 3, 28, 28)])
def test_what_is_plain_is_not_announced(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "a.npy", GENERATOR.integers(0, 256, shape, np.uint8))
    assert notes(tmp_path / "a.npy") == ""


def test_good_arrays_beside_a_pickled_one_are_read_and_it_is_named(tmp_path: Path) -> None:
    images, objects = GENERATOR.integers(0, 256, (3, 4, 4), np.uint8), np.array([{"x": 1}] * 3, object)
    np.savez(tmp_path / "a.npz", x=images, info=objects)
    split = everything(tmp_path / "a.npz")
    np.testing.assert_array_equal(split.images(range(3))[:, 0], images)
    assert "info" in notes(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", pictures=images, y=objects)
    split = everything(tmp_path / "b.npz")
    assert split.labels is None
    assert "y" in notes(tmp_path / "b.npz")
    cases: list[tuple[dict[str, Any], dict[str, str]]] = [
        ({"x": objects}, {}),
        ({"x": images, "y": objects}, {"labels": "y"}),
        ({"train": images, "test": objects}, {}),
    ]
    for arrays, options in cases:
        np.savez(tmp_path / "c.npz", **arrays)
        name = next(name for name, array in arrays.items() if array is objects)
        with pytest.raises(DataError, match=f"{name} contains Python objects"):
            everything(tmp_path / "c.npz", **options)


def test_arrays_that_are_shorter_than_they_say_are_refused(tmp_path: Path) -> None:
    stored = io.BytesIO()
    np.save(stored, GENERATOR.integers(0, 256, (4, 8, 8), np.uint8))
    whole = stored.getvalue()
    for content, said in {whole[:-9]: "shorter", whole[:6] + b"\x09" + whole[7:]: "version"}.items():
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            archive.writestr("x.npy", content)
        with pytest.raises(DataError, match=said) as caught:
            everything(tmp_path / "a.npz")
        assert "a.npz" in str(caught.value)


def test_an_array_that_is_damaged_inside_the_archive_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=GENERATOR.integers(0, 256, (4, 8, 8), np.uint8))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[len(content) // 2] ^= 255
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.npz.*x\b"):
        everything(tmp_path / "a.npz")


def test_bytes_are_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((3, 2, 2)), y=np.array([b"cat", b"", b"ant"]))
    split = everything(tmp_path / "a.npz")
    assert (split.classes, present(split.labels).tolist()) == (("ant", "cat"), [1, -1, 0])


def test_texts_are_labels_and_a_part_without_labels_has_none(tmp_path: Path) -> None:
    images = GENERATOR.integers(0, 256, (3, 4, 4), np.uint8)
    np.savez(tmp_path / "a.npz", x=images, y=np.array(["dog", "cat", "dog"]))
    split = everything(tmp_path / "a.npz")
    assert split.classes is not None
    assert [split.classes[label] for label in present(split.labels)] == ["dog", "cat", "dog"]
    np.savez(tmp_path / "b.npz", train=images, test=images[:2], train_labels=np.arange(3))
    assert present(everything(tmp_path / "b.npz").labels).tolist() == [0, 1, 2, -1, -1]


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_only_regular_files_are_opened(tmp_path: Path, name: str, kind: str) -> None:
    os.mkfifo(tmp_path / name) if kind == "pipe" else (tmp_path / name).symlink_to("/dev/zero")
    with pytest.raises(DataError, match="not a regular file"):
        everything(tmp_path / name)


def test_factors_of_variation_are_columns(tmp_path: Path) -> None:
    images = GENERATOR.integers(0, 256, (6, 4, 4), np.uint8)
    factors = np.stack([np.arange(6) % 2, np.arange(6) % 3], 1)
    np.savez(tmp_path / "a.npz", imgs=images, latents_classes=factors)
    split = everything(tmp_path / "a.npz")
    assert split.labels is None
    np.testing.assert_array_equal(split.columns["factor-1"].values, factors[:, 0])
    np.testing.assert_array_equal(split.columns["factor-2"].values, factors[:, 1])
    split = everything(tmp_path / "a.npz", factors=["shape", "scale"])
    assert list(split.columns) == ["shape", "scale"]
    np.savez(tmp_path / "b.npz", x_train=images[:4], x_test=images[4:], train_factors=factors[:4])
    split = everything(tmp_path / "b.npz")
    assert split.columns["factor-2"].values.tolist() == [*factors[:4, 1], -1, -1]


@pytest.mark.parametrize(
    ("factors", "names", "match"),
    [
        (np.zeros((5, 2), int), None, "5, 2|5×2"),
        (np.zeros((6, 2)), None, "float64"),
        (np.zeros((6, 2), int), ["one"], "1 name for 2"),
        (np.zeros(6, int), None, "integers"),
        (None, ["one", "two"], "no array factors"),
    ],
)
def test_wrong_factors_are_refused(tmp_path: Path, factors: Any, names: Any, match: str) -> None:
    arrays = {} if factors is None else {"factors": factors}
    np.savez(tmp_path / "a.npz", x=GENERATOR.integers(0, 256, (6, 4, 4), np.uint8), **arrays)
    options = {} if names is None else {"factors": names}
    with pytest.raises(DataError, match=match):
        everything(tmp_path / "a.npz", **options)


@pytest.mark.parametrize("channels", ["first", "last"])
def test_the_only_axis_of_a_row_is_not_that_of_channels(channels: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", GENERATOR.integers(0, 256, (8, 28), np.uint8))
    with pytest.raises(DataError, match="channels: none"):
        everything(tmp_path / "a.npy", channels=channels)


def test_labels_below_minus_one_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.zeros((3, 8, 8), np.uint8), labels=np.array([0, -1, -2]))
    with pytest.raises(DataError, match="-2"):
        everything(tmp_path / "a.npz")
