from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DataObject
from PIL import Image

from convae.data import DataConfig, Split, open_split
from convae.data.sources.base import PARTS
from convae.data.splits.division import divide
from convae.data.splits.statistics import find_duplicates

fractions = st.floats(0, 1, exclude_max=True)


def digests(numbers: range | list[int]) -> np.ndarray:
    """(images, 16) digests of images whose contents are numbers."""
    raw = b"".join(hashlib.blake2b(str(number).encode(), digest_size=16).digest() for number in numbers)
    return np.frombuffer(raw, np.uint8).reshape(-1, 16)


def membership(numbers: range | list[int], validation: float = 0.1, test: float = 0.1, seed: int = 0) -> dict[int, str]:
    """The part that each of the images is in."""
    cut = divide(digests(numbers), None, validation, test, seed)
    return {numbers[row]: name for name in PARTS for row in cut.rows[name]}


@given(
    contents=st.lists(st.integers(0, 40), min_size=1, max_size=60),
    validation=fractions,
    test=fractions,
    seed=st.integers(0, 2**70),
    parts=st.data(),
)
def test_the_parts_are_a_partition_that_content_and_seed_decide(
    contents: list[int], validation: float, test: float, seed: int, parts: DataObject
) -> None:
    size = len(contents)
    official = parts.draw(st.none() | st.lists(st.integers(0, 2), min_size=size, max_size=size))
    given_parts = None if official is None else np.array(official, np.int8)
    cut = divide(digests(contents), given_parts, validation, test, seed)
    together = np.concatenate([cut.rows[name] for name in PARTS])
    assert sorted(together) == list(range(size))
    for name in PARTS:
        assert list(cut.rows[name]) == sorted(cut.rows[name])
    if official is None:
        where = {name: {contents[row] for row in cut.rows[name]} for name in PARTS}
        assert sum(map(len, where.values())) == len(set(contents))
        assert where["train"]


@given(distinct=st.integers(2, 40), fraction=st.floats(0.001, 0.999), copies=st.integers(1, 3))
def test_a_part_that_is_asked_for_has_an_image_and_never_all(distinct: int, fraction: float, copies: int) -> None:
    cut = divide(digests(list(range(distinct)) * copies), None, fraction, 0.0, 0)
    assert 1 <= len(cut.rows["validation"]) / copies <= distinct - 1
    assert len(cut.rows["test"]) == 0


def test_about_the_fraction_is_held_out() -> None:
    cut = divide(digests(range(20_000)), None, 0.25, 0.1, 5)
    sizes = {name: len(rows) for name, rows in cut.rows.items()}
    assert sizes["test"] == pytest.approx(2000, abs=150)
    assert sizes["validation"] == pytest.approx(0.25 * 18_000, abs=250)


def test_an_image_that_comes_or_goes_moves_no_other() -> None:
    many = list(range(1000))
    before = membership(many)
    for after in (membership([*many, 1000]), membership(many[1:]), membership(many[::-1])):
        assert all(before[number] == part for number, part in after.items() if number in before)


def test_the_seed_decides() -> None:
    assert membership(range(200)) != membership(range(200), seed=1)


def test_validation_does_not_touch_the_test_images() -> None:
    few, many = membership(range(200), validation=0.1, test=0.2), membership(range(200), validation=0.5, test=0.2)
    assert [number for number in few if few[number] == "test"] == [n for n in many if many[n] == "test"]


def test_official_parts_stay_as_they_are() -> None:
    parts = np.repeat(np.array([0, 1, 2], np.int8), [20, 5, 6])
    cut = divide(digests(range(31)), parts, 0.5, 0.5, 0)
    assert {name: len(rows) for name, rows in cut.rows.items()} == {"train": 20, "validation": 5, "test": 6}
    assert set(cut.chosen.values()) == {"official"}


def parts_of(folder: Path, **options: Any) -> dict[str, Split]:
    config = DataConfig(source=folder, **options)
    return {name: open_split(config, name) for name in PARTS}


def test_an_image_stays_in_its_part_at_another_size_and_when_the_folder_grows(
    pictures: Path, photo: Callable[..., Image.Image]
) -> None:
    def where(**options: Any) -> dict[str, str]:
        return {key: name for name, split in parts_of(pictures, **options).items() for key in split.keys}

    before = where(validation=0.3, test=0.3)
    changes: list[dict[str, Any]] = [{}, {"channels": 1}, {"interpolation": "bilinear"}, {"resize_mode": "pad"}]
    for options in changes:
        assert where(validation=0.3, test=0.3, size=8, **options) == before
    for number in range(100, 104):
        photo(seed=number).save(pictures / "cat" / f"0{number}.png")
    grown = where(validation=0.3, test=0.3)
    assert {key: grown[key] for key in before} == before


@pytest.mark.parametrize("size", [None, 8])
def test_equal_images_under_two_names_are_in_one_part_and_counted(pictures: Path, size: int | None) -> None:
    for path in list(pictures.glob("*/*.png")):
        path.with_name(f"copy of {path.name}").write_bytes(path.read_bytes())
    splits = parts_of(pictures, size=size, validation=0.3, test=0.3)
    names = {name: {key.replace("copy of ", "") for key in split.keys} for name, split in splits.items()}
    assert {name: 2 * len(own) for name, own in names.items()} == {name: len(split) for name, split in splits.items()}
    found = find_duplicates(splits)
    assert (found.images, found.distinct) == (20, 10)
    assert set(found.trained_on.values()) == {0}


def test_held_out_images_of_official_parts_that_are_trained_on_are_counted(
    tmp_path: Path, photo: Callable[..., Image.Image]
) -> None:
    for part, seeds in {"train": (0, 1, 2, 3, 3), "test": (3, 4), "val": (5, 6)}.items():
        (tmp_path / "set" / part).mkdir(parents=True)
        for number, seed in enumerate(seeds):
            photo(seed=seed).save(tmp_path / "set" / part / f"{number}.png")
    found = find_duplicates(parts_of(tmp_path / "set"))
    assert (found.images, found.distinct) == (3, 1)
    assert found.trained_on == {"validation": 0, "test": 1}
    assert found.held_out == {"validation": 2, "test": 2}


def test_equal_rows_of_an_array_are_in_one_part(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).random((40, 6, 6), np.float32)
    np.save(tmp_path / "a.npy", np.concatenate([rows, rows]))
    where = [{int(key) % 40 for key in split.keys} for split in parts_of(tmp_path / "a.npy").values()]
    assert sum(map(len, where)) == 40
