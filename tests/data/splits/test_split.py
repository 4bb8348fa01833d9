from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from narrow import present
from PIL import Image

from convae.core.errors import ConfigError, DataError
from convae.data import DataConfig, load_and_preprocess, open_split
from convae.data.images.pixels import Interpolation
from convae.data.sources.base import PARTS
from convae.data.splits.split import SplitName


def test_splits_of_a_set_with_an_official_test(tmp_path: Path, write_idx: Callable[..., Path]) -> None:
    config = DataConfig(source="mnist", dir=write_idx(tmp_path / "d", train=20, test=5), validation=0.25)
    names: tuple[SplitName, ...] = (*PARTS, "all")
    splits = {name: open_split(config, name) for name in names}
    assert len(splits["train"]) + len(splits["validation"]) == 20
    assert (len(splits["test"]), len(splits["all"])) == (5, 25)
    assert splits["test"].keys == [f"test/{index:05d}" for index in range(5)]
    assert sorted(splits["train"].keys + splits["validation"].keys) == [f"train/{index:05d}" for index in range(20)]
    assert splits["validation"].describe()["chosen"] == "0.25 of 20 by content and seed 0"
    assert splits["test"].describe()["chosen"] == "official"
    with_all = splits["all"]
    np.testing.assert_array_equal(present(with_all.labels)[20:], splits["test"].labels)
    np.testing.assert_array_equal(with_all.images(range(20, 25)), splits["test"].images(range(5)))


def test_images_are_gathered_as_asked_for(pictures: Path) -> None:
    split = open_split(DataConfig(source=pictures, size=(16, 16)), "all")
    images = split.images([3, 3, 0])
    assert images.shape == (3, 3, 16, 16)
    for position, index in enumerate([3, 3, 0]):
        expected = load_and_preprocess(pictures / split.key(index), (16, 16))
        np.testing.assert_array_equal(np.moveaxis(images[position].numpy(), 0, -1), expected)


def test_an_index_outside_the_split_is_an_error(pictures: Path) -> None:
    split = open_split(DataConfig(source=pictures), "test")
    with pytest.raises(IndexError):
        split.images([len(split)])


def test_the_content_hash_depends_on_content_alone(tmp_path: Path, write_idx: Callable[..., Path]) -> None:
    def content(folder: Path, **options: Any) -> str:
        return open_split(DataConfig(source="mnist", dir=folder, **options), "test").content_hash

    first, second = write_idx(tmp_path / "a"), write_idx(tmp_path / "b")
    for path in second.iterdir():
        # Another gzip header and time, as in Debian's package.
        path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), compresslevel=1, mtime=5))
        os.utime(path, (1, 1))
    assert content(first) == content(second)
    assert content(first) != content(write_idx(tmp_path / "c", seed=1))
    assert content(first) != content(first, channels=3)
    train = open_split(DataConfig(source="mnist", dir=first), "train").content_hash
    assert content(first) != train
    labels = second / "t10k-labels-idx1-ubyte.gz"
    changed = bytearray(gzip.decompress(labels.read_bytes()))
    changed[-1] = (changed[-1] + 1) % 10
    labels.write_bytes(gzip.compress(bytes(changed)))
    assert content(first) != content(second)


def test_each_interpolation_has_a_store_of_its_own(pictures: Path) -> None:
    stored = {
        how: open_split(DataConfig(source=pictures, size=8, interpolation=how), "all")
        for how in get_args(Interpolation)
    }
    assert len({split.content_hash for split in stored.values()}) == len(stored)


def test_describe_states_the_facts_a_figure_needs(pictures: Path) -> None:
    resizing: dict[str, Any] = {"size": 16, "resize_mode": "pad", "interpolation": "bilinear"}
    split = open_split(DataConfig(source=pictures, channels=1, split_seed=7, **resizing), "test")
    facts = split.describe()
    assert len(facts.pop("content_hash")) == 64
    assert facts == {
        "source": "folder pictures",
        "split": "test",
        "chosen": "0.1 of 10 by content and seed 7",
        "count": len(split),
        "channels": 1,
        "size": [16, 16],
        "resize_mode": "pad",
        "interpolation": "bilinear",
        "skipped": 0,
    }


def test_size_comes_from_the_configuration_then_the_images_then_the_caller(
    pictures: Path, photo: Callable[..., Image.Image]
) -> None:
    assert open_split(DataConfig(source=pictures, size=8), "all", size=(5, 5), channels=1).shape == (3, 8, 8)
    assert open_split(DataConfig(source=pictures), "all", size=(5, 5), channels=1).shape == (3, 30, 40)
    photo(20, 20).save(pictures / "other.png")
    assert open_split(DataConfig(source=pictures), "all", size=(5, 5), channels=1).shape == (3, 5, 5)
    with pytest.raises(DataError, match=r"several sizes.*data\.size"):
        open_split(DataConfig(source=pictures), "all")


def test_a_size_needs_as_many_numbers_as_the_images_have_axes(pictures: Path) -> None:
    with pytest.raises(DataError, match=r"data\.size is 4×4×4, but the images are 30×40"):
        open_split(DataConfig(source=pictures, size=(4, 4, 4)), "all")


def test_a_split_without_images_is_refused_with_the_reason(pictures: Path) -> None:
    with pytest.raises(DataError, match=r"no validation images among its 10 .*data\.validation is 0"):
        open_split(DataConfig(source=pictures, validation=0), "validation")


def test_unknown_names_are_refused_with_the_nearest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"'minst'.*did you mean 'mnist'"):
        open_split(DataConfig(source="minst"), "test")
    with pytest.raises(DataError, match="photos/summer: no such file"):
        open_split(DataConfig(source="photos/summer"), "test")
    (tmp_path / "a.png").touch()
    with pytest.raises(DataError, match="unsupported file"):
        open_split(DataConfig(source="a.png"), "test")
    with pytest.raises(ConfigError, match="'path' is missing"):
        open_split(DataConfig(source="folder"), "test")
