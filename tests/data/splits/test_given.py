"""Data that the caller holds: arrays, tensors and datasets are images like those of a split."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from narrow import present
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from convae.core.errors import ConfigError, DataError
from convae.data import Batches, in_order
from convae.data.config import DataConfig
from convae.data.data_dirs import find_data_dirs
from convae.data.sources import open_source
from convae.data.splits.given import GivenData

BYTES = np.random.default_rng(0).integers(0, 256, (40, 3, 8, 6), dtype=np.uint8)
LABELS = np.arange(40) % 4


class Pictures(Dataset[Any]):
    def __len__(self) -> int:
        return len(BYTES)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(np.moveaxis(BYTES[index], 0, -1)), int(LABELS[index])


FORMS: dict[str, tuple[Any, dict[str, Any]]] = {
    "bytes": (BYTES, {}),
    "tensor": (torch.from_numpy(BYTES), {}),
    "floats": (BYTES / 255, {}),
    "channels last": (np.moveaxis(BYTES, 1, -1), {"channels_last": True}),
    "pairs": (TensorDataset(torch.from_numpy(BYTES), torch.from_numpy(LABELS)), {}),
    "Pillow": (Pictures(), {}),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_batches_from_any_step(form: str) -> None:
    images, options = FORMS[form]
    split = GivenData(images, LABELS, **options).split("train")
    places = GivenData(images, np.arange(len(BYTES)), **options).split("train").labels
    whole = Batches(split, 7, seed=3)
    reference = Batches(GivenData(BYTES, LABELS).split("train"), 7, seed=3)
    if form not in ("pairs", "Pillow", "floats"):
        assert len(split) == len(reference.split) < len(BYTES)
    for found, begin in ((list(whole.iterate(1)), 0), (list(whole.iterate(1, 2)), 2)):
        for step, batch in enumerate(found, start=begin):
            rows = present(places)[whole.indices(1, step)]
            torch.testing.assert_close(batch.images, torch.from_numpy(BYTES[rows]).float() / 255, rtol=0, atol=1e-7)
            assert batch.labels is not None
            assert present(batch.labels).tolist() == LABELS[rows].tolist()


@pytest.mark.parametrize("kind", ["uint16", "float32"])
def test_arrays_of_another_byte_order_are_the_same_images(kind: str) -> None:
    values = BYTES.astype(kind) / (1 if kind == "uint16" else np.float32(255))
    values = values.astype(kind)
    swapped = GivenData(values.astype(np.dtype(kind).newbyteorder()), LABELS).split("train")
    native = GivenData(values, LABELS).split("train")
    np.testing.assert_array_equal(swapped.images(range(len(swapped))), native.images(range(len(native))))


def test_labels_of_a_dataset_are_those_of_its_pairs() -> None:
    assert GivenData(Pictures()).split("train").labels is not None
    assert GivenData(BYTES).split("train").labels is None


@pytest.mark.parametrize("option", [{"missing": 0.5}, {"binarize": "fixed"}, {"binarize": "dynamic"}])
def test_images_of_a_dataset_have_random_numbers_of_their_own(option: dict[str, Any]) -> None:
    given = GivenData(TensorDataset(torch.full((64, 1, 16, 16), 0.5)))
    split = given.configure(DataConfig(source={"given": given.recorded()}, validation=0.0, **option)).split("train")
    for batch in (next(in_order(split, 64)), next(Batches(split, 64, 0).iterate(0))):
        drawn = (batch.images if batch.weights is None else batch.weights).flatten(1)
        assert 0.45 < drawn.mean() < 0.55
        # Not those of the image before, shifted by some pixels, either.
        for shift in range(6):
            equal = (drawn[:-1, shift:] == drawn[1:, : 256 - shift]).float().mean(1)
            assert (equal - 0.5).abs().max() < 0.2


def test_images_are_held_out_by_content_and_given_ones_stay_apart() -> None:
    given = GivenData(np.concatenate([BYTES, BYTES]))
    config = DataConfig(source={"given": given.recorded()}, validation=0.3)
    parts = [given.configure(config).split(name) for name in ("train", "validation")]
    seen = [{part.images([row]).numpy().tobytes() for row in range(len(part))} for part in parts]
    assert sum(map(len, parts)) == 80
    assert not seen[0] & seen[1]
    given = GivenData(BYTES[:30], validation=(BYTES[30:], LABELS[30:]))
    assert (len(given.split("train")), len(given.split("validation"))) == (30, 10)


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(BYTES)


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (Stream(), None, "IterableDataset"),
        (np.moveaxis(BYTES, 1, -1).repeat(2, axis=1), None, "channels_last"),
        (BYTES[:, 0].repeat(2, axis=1), None, r"images\[:, None\]"),
        (BYTES.astype(np.int64), None, "int64"),
        (BYTES * 2.0, None, "floats in"),
        (BYTES[:0], None, "empty"),
        (BYTES, LABELS[:3], "labels"),
        ("mnist", None, "recipe"),
        ([], None, "empty"),
        ([np.zeros(4, np.uint8)], None, "item 0"),
        ([{"image": BYTES[0]}], None, "dict"),
    ],
)
def test_what_is_no_data_is_refused(images: Any, labels: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        GivenData(images, labels)


def test_items_that_are_unlike_the_first_are_named() -> None:
    mixed = GivenData([*BYTES[:5], BYTES[5, :, :4]]).split("train")
    with pytest.raises(DataError, match=r"item 5 .*3×4×6"):
        mixed.images(range(len(mixed)))


def test_images_to_validate_on_have_the_size_of_those_to_train_on() -> None:
    with pytest.raises(DataError, match=r"3×8×4.*3×8×6"):
        GivenData(BYTES, validation=BYTES[:4, :, :, :4])


def test_a_size_in_the_recipe_is_no_reason_to_resize_what_was_given() -> None:
    given = GivenData(BYTES)
    with pytest.raises(ConfigError, match="3×8×6"):
        given.configure(DataConfig(source={"given": given.recorded()}, size=(4, 4)))


def test_labels_of_a_dataset_may_be_an_attribute() -> None:
    class Known(Pictures):
        targets = LABELS[::-1]

        def __getitem__(self, index: int) -> Any:
            return super().__getitem__(index)[0]

    split = GivenData(Known(), validation=BYTES[:2]).split("train")
    assert present(split.labels).tolist() == LABELS[::-1].tolist()


def test_labels_of_an_attribute_that_items_do_not_have_are_those_of_the_items() -> None:
    class Transformed(Pictures):
        """As of torchvision with a `target_transform`."""

        targets = LABELS + 10

    split = GivenData(Transformed(), validation=BYTES[:2]).split("train")
    assert present(split.labels).tolist() == LABELS.tolist()


@pytest.mark.parametrize("is_dataset", [False, True])
def test_integers_that_use_a_small_part_of_their_range_are_noted(is_dataset: bool) -> None:
    def notes(values: Any) -> list[str]:
        return GivenData(TensorDataset(values) if is_dataset else values).split("train").notes

    binary = torch.from_numpy(BYTES > 128)
    (note,) = notes(binary.to(torch.uint8))
    assert "0 to 1" in note
    assert "255" in note
    assert [notes(each) for each in (binary, binary.float(), torch.from_numpy(BYTES), torch.zeros(4, 1, 8, 8))] == [
        []
    ] * 4


class Items(Dataset[Any]):
    """A dataset of given items."""

    def __init__(self, items: Any) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


@pytest.mark.parametrize("items", [np.moveaxis(BYTES, 1, -1), BYTES[:, 0]])
def test_items_without_channels_first_are_refused_as_arrays_are(items: Any) -> None:
    for data in (items, Items(items)):
        with pytest.raises(DataError, match=r"expected \(images, channels, \*sizes\)"):
            GivenData(data)


def test_items_of_a_dataset_may_have_channels_last() -> None:
    last = Items(np.moveaxis(BYTES, 1, -1))
    split = GivenData(last, validation=last, channels_last=True).split("train")
    np.testing.assert_array_equal(split.images([5]), BYTES[5:6])


def test_pillow_images_of_palettes_are_colors() -> None:
    image = Image.fromarray(np.moveaxis(BYTES[0], 0, -1)).quantize(16)
    split = GivenData(Items([image] * 4), validation=Items([image])).split("train")
    np.testing.assert_array_equal(split.images([0])[0].movedim(0, -1), np.asarray(image.convert("RGB")))


def test_other_data_are_noticed_and_a_recipe_alone_does_not_have_them() -> None:
    config = DataConfig(source={"given": GivenData(BYTES).recorded()})
    with pytest.raises(ConfigError, match="was trained on"):
        GivenData(255 - BYTES).configure(config)
    with pytest.raises(ConfigError, match="resume"):
        open_source(config.source, find_data_dirs(None, False))
