"""Labeled images that are drawn into every batch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from narrow import present

from convae.core.types import Batch
from convae.data import AugmentConfig, Batches, LabeledDraws, Split

DARKER = AugmentConfig(brightness=0.5)


@given(
    labels=st.lists(st.integers(-1, 3), min_size=1, max_size=30).filter(lambda found: max(found) >= 0),
    size=st.integers(1, 20),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 9),
)
def test_labeled_images_are_drawn_equally_often(labels: list[int], size: int, fraction: float, seed: int) -> None:
    values = np.array(labels, np.int64)
    draws = LabeledDraws(values, fraction, AugmentConfig(), seed)
    rows, base = draws.rows(size), np.full(size, -7)
    assert len(set(rows)) == len(rows) == max(1, round(fraction * size))
    assert set(rows) <= set(range(size))
    found = [draws.insert(base, number) for number in range(6)]
    drawn = np.concatenate([batch[rows] for batch in found])
    assert (values[drawn] >= 0).all()
    assert all((np.delete(batch, rows) == -7).all() for batch in found)
    counts = np.bincount(drawn, minlength=len(values))[values >= 0]
    assert counts.max() - counts.min() <= 1
    again = LabeledDraws(values, fraction, AugmentConfig(), seed)
    np.testing.assert_array_equal(again.insert(base, 5), found[5])


def batches(split: Split, *, draws: bool = True, part: tuple[int, int] = (0, 1), augment: bool = True) -> Batches:
    labels = np.where(np.arange(len(split)) % 50 // 4 == 5, 1, -1)  # the images 20 to 23
    config = DARKER if augment else AugmentConfig()
    made = LabeledDraws(labels, 0.4, config, 3) if draws else None
    return Batches(split, 10, 3, labels=labels, part=part, draws=made)


def test_the_other_images_of_a_batch_are_those_without_draws(numbered: Callable[..., Split]) -> None:
    split = numbered(50)
    drawn, plain = (list(batches(split, draws=draws).iterate(2)) for draws in (True, False))
    assert len(drawn) == len(plain) == 5
    for one, other in zip(drawn, plain, strict=True):
        rows = torch.tensor([0, 2, 5, 7])
        rest = torch.tensor([row for row in range(10) if row not in rows.tolist()])
        assert torch.equal(one.images[rest], other.images[rest])
        assert torch.equal(one.indices[rest], other.indices[rest])
        assert (one.indices[rows] // 4 == 5).all()
        assert (present(one.labels)[rows] == 1).all()
        assert present(one.labeled_fraction) >= 0.4


def test_an_image_that_is_drawn_again_is_augmented_anew(numbered: Callable[..., Split]) -> None:
    split = numbered(50)
    seen: dict[int, set[bytes]] = {}
    for batch in batches(split).iterate(0):
        for row in (0, 2, 5, 7):
            seen.setdefault(int(batch.indices[row]), set()).add(batch.images[row].numpy().tobytes())
    assert {len(variants) for variants in seen.values()} == {5}
    once: dict[int, set[bytes]] = {}
    for batch in batches(split, augment=False).iterate(0):
        for index, image in zip(batch.indices.tolist(), batch.images, strict=True):
            once.setdefault(index, set()).add(image.numpy().tobytes())
    assert all(len(variants) == 1 for variants in once.values())


def test_processes_get_the_parts_of_the_batch_of_one(numbered: Callable[..., Split]) -> None:
    split = numbered(50)

    def at(part: tuple[int, int]) -> list[Batch]:
        return list(batches(split, part=part).iterate(1, start_step=2))

    for whole, *parts in zip(at((0, 1)), *(at((rank, 3)) for rank in range(3)), strict=True):
        assert torch.equal(whole.images, torch.cat([part.images for part in parts]))
        assert torch.equal(whole.indices, torch.cat([part.indices for part in parts]))
        assert {part.labeled_fraction for part in parts} == {whole.labeled_fraction}
