from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from types import GeneratorType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from narrow import narrow, present

from convae.core.errors import ConfigError
from convae.data import Batches, Split, in_order
from convae.data.image_set import evenly_spaced
from convae.data.splits.given import GivenData


def threads() -> int:
    return sum(thread.name.startswith("batches") for thread in threading.enumerate())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(
    count=st.integers(1, 40),
    size=st.integers(1, 50),
    seed=st.integers(0, 2**63),
    epoch=st.integers(0, 9),
    drop=st.booleans(),
)
def test_an_epoch_is_a_permutation_without_its_remainder(
    numbered: Callable[..., Split], count: int, size: int, seed: int, epoch: int, drop: bool
) -> None:
    batches = Batches(numbered(count), size, seed, drop_last=drop)
    blocks = [batches.indices(epoch, step) for step in range(batches.steps_per_epoch)]
    seen = np.concatenate(blocks)
    assert len(set(seen)) == len(seen)
    assert set(seen) <= set(range(count))
    whole = max(count // size * size, min(count, size))
    assert len(seen) == (whole if drop else count)
    assert {len(block) for block in blocks[:-1]} <= {size}
    again = Batches(numbered(count), size, seed, drop_last=drop)
    np.testing.assert_array_equal(again.indices(epoch, 0), blocks[0])


def test_epochs_and_seeds_differ_and_their_order_is_asked_in_any_order(numbered: Callable[..., Split]) -> None:
    batches = Batches(numbered(100), 100, seed=1)
    first, second = batches.indices(0, 0), batches.indices(1, 0)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(batches.indices(0, 0), first)
    assert not np.array_equal(Batches(numbered(100), 100, seed=2).indices(0, 0), first)


def test_the_order_stays_what_it_was_in_earlier_versions(numbered: Callable[..., Split]) -> None:
    assert Batches(numbered(10), 10, seed=0).indices(0, 0).tolist() == [1, 6, 2, 5, 4, 0, 3, 7, 9, 8]


@pytest.mark.parametrize("step", [-1, 2])
def test_a_step_outside_the_epoch_is_refused(numbered: Callable[..., Split], step: int) -> None:
    with pytest.raises(IndexError, match="epoch of 2"):
        Batches(numbered(10), 5, seed=0).indices(0, step)


def test_batches_hold_the_images_of_their_indices(numbered: Callable[..., Split]) -> None:
    batches = Batches(numbered(20), 6, seed=0)
    steps = list(batches.iterate(epoch=3))
    assert len(steps) == 3
    for step, batch in enumerate(steps):
        np.testing.assert_array_equal(batch.indices, batches.indices(3, step))
        assert batch.images.shape == (6, 3, 2, 3)
        assert torch.equal(batch.images, (batch.indices / 255).float()[:, None, None, None].expand(6, 3, 2, 3))
        assert torch.equal(present(batch.labels), batch.indices % 3)
        assert len(batch) == 6


def test_an_epoch_goes_on_where_it_stopped(numbered: Callable[..., Split]) -> None:
    batches = Batches(numbered(20), 3, seed=0)
    whole = list(batches.iterate(1))
    rest = list(batches.iterate(1, start_step=4))
    assert [batch.indices.tolist() for batch in rest] == [batch.indices.tolist() for batch in whole[4:]]
    assert list(batches.iterate(1, start_step=6)) == []


def test_values_are_exactly_the_byte_over_255_and_channels_last(numbered: Callable[..., Split]) -> None:
    (batch,) = in_order(numbered(256), 256)
    expected = np.arange(256, dtype=np.float32) / np.float32(255)
    np.testing.assert_array_equal(batch.images[:, 0, 0, 0].numpy(), expected)
    assert batch.images.dtype == torch.float32
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert not batch.images.is_contiguous()


def test_spread_batches_have_evenly_spaced_images(numbered: Callable[..., Split]) -> None:
    split = numbered(10)
    blocks = [batch.indices.tolist() for batch in in_order(split, 4, is_spread=True)]
    assert blocks == [[0, 3, 6, 9], [1, 4, 7], [2, 5, 8]]
    parts = [in_order(split, 4, part=(rank, 2), is_spread=True) for rank in range(2)]
    assert [[batch.indices.tolist() for batch in part] for part in parts] == [[blocks[0], blocks[2]], [blocks[1]]]


def test_in_order_gives_every_image_once(numbered: Callable[..., Split]) -> None:
    blocks = [batch.indices.tolist() for batch in in_order(numbered(10), 4)]
    assert blocks == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_batches_are_delivered_in_inference_mode(numbered: Callable[..., Split]) -> None:
    split = numbered(7)
    with torch.inference_mode():
        found = torch.cat([batch.images for batch in in_order(split, 3)])
    assert torch.equal(found, torch.cat([batch.images for batch in in_order(split, 3)]))


def test_without_labels_there_are_none(numbered: Callable[..., Split]) -> None:
    assert [batch.labels for batch in in_order(numbered(3, labels=False), 2)] == [None, None]


def test_the_thread_ends_when_the_consumer_stops_or_fails(numbered: Callable[..., Split]) -> None:
    batches = Batches(numbered(20), 2, seed=0)
    with contextlib.closing(narrow(GeneratorType, batches.iterate(0))) as iterator:
        next(iterator)
        assert batches.waited > 0
        assert threads() == 1
    assert threads() == 0

    def consume() -> None:
        for _ in batches.iterate(0):
            raise ValueError("in the step")

    with pytest.raises(ValueError, match="in the step"):
        consume()
    assert threads() == 0


def test_an_error_in_the_thread_reaches_the_consumer(
    numbered: Callable[..., Split], monkeypatch: pytest.MonkeyPatch
) -> None:
    split = numbered(10)
    whole = split.images

    def failing(indices: Any, out: Any) -> Any:
        if 7 in indices:
            raise OSError("the disk is gone")
        return whole(indices, out)

    monkeypatch.setattr(split, "images", failing)
    iterator = in_order(split, 5)
    assert next(iterator).indices.tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(OSError, match="the disk is gone"):
        next(iterator)
    assert threads() == 0


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(processes=st.integers(1, 5), size=st.integers(5, 23))
def test_the_parts_of_several_processes_are_the_batch(
    numbered: Callable[..., Split], processes: int, size: int
) -> None:
    labels = np.where(np.arange(50) % 3, np.arange(50) % 4, -1)
    whole = Batches(numbered(50), size, seed=3, labels=labels)
    shares = [Batches(numbered(50), size, seed=3, labels=labels, part=(rank, processes)) for rank in range(processes)]
    for batch, *parts in zip(whole.iterate(1), *(share.iterate(1) for share in shares), strict=True):
        assert torch.equal(torch.cat([part.indices for part in parts]), batch.indices)
        assert torch.equal(torch.cat([part.images for part in parts]), batch.images)
        assert [part.start for part in parts] == [size * rank // processes for rank in range(processes)]
        assert {part.global_size for part in parts} == {size}
        assert batch.labels is not None
        for part in parts:
            assert part.labeled_fraction == pytest.approx(float((batch.labels >= 0).double().mean()))


def test_parts_know_their_place(numbered: Callable[..., Split]) -> None:
    (batch,) = Batches(numbered(10), 10, seed=0, part=(1, 2)).iterate(0)
    parts = list(batch.split(3))
    assert [(part.start, len(part), part.global_size) for part in parts] == [(5, 1, 10), (6, 2, 10), (8, 2, 10)]
    assert list(batch.split(1)) == [batch]
    assert len(list(batch.split(9))) == 5


def test_processes_take_whole_batches_by_turns_without_training(numbered: Callable[..., Split]) -> None:
    found = [[batch.indices.tolist() for batch in in_order(numbered(10), 4, part=(rank, 2))] for rank in range(2)]
    assert found == [[[0, 1, 2, 3], [8, 9]], [[4, 5, 6, 7]]]


def test_more_processes_than_images_in_a_batch_are_refused(numbered: Callable[..., Split]) -> None:
    with pytest.raises(ConfigError, match=r"batch_size: 2 images .* 3 processes"):
        Batches(numbered(10), 2, seed=0, part=(0, 3))


@pytest.mark.parametrize(
    ("length", "count", "positions"), [(10, 5, [0, 2, 4, 6, 8]), (5, 2, [0, 2]), (3, 9, [0, 1, 2]), (0, 4, [])]
)
def test_a_few_images_are_spread_over_a_split(length: int, count: int, positions: list[Any] | list[int]) -> None:
    assert evenly_spaced(length, count).tolist() == positions


def test_images_are_gathered_on_one_core_and_the_caller_keeps_its_own() -> None:
    class Counting(torch.utils.data.Dataset[torch.Tensor]):
        """Notes the number of cores on which torch computes where an image is read."""

        def __init__(self) -> None:
            self.found: list[tuple[str, int]] = []

        def __len__(self) -> int:
            return 6

        def __getitem__(self, index: int) -> torch.Tensor:
            self.found.append((threading.current_thread().name, torch.get_num_threads()))
            return torch.full((1, 4, 4), index, dtype=torch.uint8)

    images, own = Counting(), torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        split = GivenData(images).split("train")
        images.found.clear()
        list(in_order(split, 2))
        assert {count for name, count in images.found if name.startswith("batches")} == {1}
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(own)
