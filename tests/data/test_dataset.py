from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from convae.core.errors import ConfigError, DataError
from convae.data import dataset, load_and_preprocess


def test_paths_become_batches_in_their_order(pictures: Path) -> None:
    paths = sorted(pictures.rglob("*.png"), reverse=True)
    found = dataset(paths, 4, 16)
    assert len(found) == 3
    batches = list(found)
    assert [len(batch) for batch in batches] == [4, 4, 2]
    images = torch.cat([batch.images for batch in batches])
    assert images.shape == (10, 3, 16, 16)
    for image, path in zip(images, paths, strict=True):
        expected = load_and_preprocess(path, (16, 16)) / np.float32(255)
        np.testing.assert_array_equal(image.movedim(0, -1), expected)
    assert [batch.indices.tolist() for batch in found] == [batch.indices.tolist() for batch in batches]


def test_a_seed_gives_each_epoch_an_order_of_its_own(pictures: Path) -> None:
    found = dataset(list(pictures.rglob("*.png")), 4, (8, 12), shuffle_seed=3)
    orders = [torch.cat([batch.indices for batch in found.epoch(number)]).tolist() for number in range(2)]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == list(range(10))
    assert torch.cat([batch.indices for batch in found]).tolist() == orders[0]


def test_what_cannot_be_read_is_left_out_and_listed(pictures: Path) -> None:
    (pictures / "bad.png").write_text("no image")
    found = dataset(
        [pictures / "cat" / "1.png", pictures / "bad.png", pictures / "cat" / "1.png"],
        8,
        8,
        channels=1,
        resize_mode="pad",
    )
    (batch,) = found
    assert batch.images.shape == (2, 1, 8, 8)
    assert [name for name, _ in found.split.skipped] == [str(pictures / "bad.png")]
    with pytest.raises(DataError, match="no readable image among 1 "):
        dataset([pictures / "bad.png"], 8, 8)


def test_wrong_arguments_are_one_sentence(pictures: Path) -> None:
    with pytest.raises(ConfigError, match="paths"):
        dataset([], 8, 8)
    with pytest.raises(ConfigError, match="size"):
        dataset([pictures / "cat" / "1.png"], 8, 0)
