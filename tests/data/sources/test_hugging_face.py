"""The source of Hugging Face data sets: what is on the disk by the library itself, the Hub by a stand-in for it."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow
import pytest
import torch
from narrow import narrow, present
from PIL import Image
from pyarrow import parquet

from convae.core.errors import ConfigError, DataError
from convae.data import DataConfig, Split, in_order, open_split
from convae.data.provenance import read_like, with_reading_options
from convae.data.splits.split import SplitName


def opened(split: SplitName = "all", **options: Any) -> Split:
    more = {key: options.pop(key) for key in ("label", "download") if key in options}
    return open_split(DataConfig(source={"hugging-face": {"path": "owner/pets", **options}}, **more), split)


def test_the_official_parts_the_classes_and_what_cannot_be_decoded(
    hub: list[tuple[str | None, str | None, bool]],
) -> None:
    split = opened()
    assert split.shape == (3, 30, 40)
    assert split.keys == [f"train/00000{row}" for row in (0, 3, 4, 5)] + [f"test/00000{row}" for row in range(3)]
    assert dict(split.skipped) == {
        "train/000001": "not an image in a format that Pillow supports",
        "train/000002": "no image in this row",
    }
    assert (split.classes, present(split.labels).tolist()) == (("cat", "dog"), [0, 1, 0, 1, 0, 1, 0])
    mood = opened(label="mood")
    assert (mood.classes, present(mood.labels).tolist()) == (("sad", "happy"), [-1, 1, 1, 1, -1, 1, 1])
    assert len(opened("test")) == 3
    assert hub[0] == (None, None, True)


def test_columns_can_be_named_and_wrong_names_are_told(hub: list[tuple[str | None, str | None, bool]]) -> None:
    opened(image="picture", config="small", revision="v1")
    assert hub[-1][:2] == ("small", "v1")
    with pytest.raises(DataError, match="unknown column 'pictures': did you mean 'picture'"):
        opened(image="pictures")
    with pytest.raises(ConfigError, match="unknown column 'knd': did you mean 'kind'"):
        opened(label="knd")


def test_downloading_is_allowed_unless_forbidden(
    hub: list[tuple[str | None, str | None, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CONVAE_OFFLINE")
    opened()
    opened(download=False)
    assert [only_local for *_, only_local in hub] == [False, True]


def test_a_single_split_of_any_name_is_the_training_data(library: ModuleType, rows: Any, tmp_path: Path) -> None:
    library.DatasetDict({"gallery": rows}).save_to_disk(tmp_path / "one")
    assert opened(path=str(tmp_path / "one")).keys == ["train/000000", "train/000003"]
    library.DatasetDict({"gallery": rows, "attic": rows}).save_to_disk(tmp_path / "two")
    with pytest.raises(DataError, match="gallery, attic"):
        opened(path=str(tmp_path / "two"))


def test_classes_that_differ_between_parts_are_refused(library: ModuleType, tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.new("L", (8, 8), 77).save(stream, "PNG")
    content = {"bytes": stream.getvalue(), "path": None}

    def part(*names: str) -> Any:
        features = library.Features(picture=library.Image(), kind=library.ClassLabel(names=list(names)))
        return library.Dataset.from_dict({"picture": [content] * 2, "kind": [0, 1]}, features=features)

    library.DatasetDict({"train": part("cat", "dog"), "test": part("dog", "cat")}).save_to_disk(tmp_path / "pets")
    with pytest.raises(DataError, match=r"kind .*part test.*align_labels_with_mapping"):
        opened(path=str(tmp_path / "pets"))


def test_labels_are_missing_in_a_part_without_the_column(library: ModuleType, rows: Any, tmp_path: Path) -> None:
    rows = rows.select([0, 3])
    library.DatasetDict(train=rows, test=rows.remove_columns("kind")).save_to_disk(tmp_path / "pets")
    assert present(opened(path=str(tmp_path / "pets")).labels).tolist() == [0, -1, -1, -1]


def test_images_are_surveyed_in_all_parts_of_the_rows(library: ModuleType, tmp_path: Path) -> None:
    """Sorted by class, the first rows may be all gray; single images of another size are noted."""

    def content(mode: str, side: int) -> dict[str, Any]:
        stream = io.BytesIO()
        Image.new(mode, (side, side), 77).save(stream, "PNG")
        return {"bytes": stream.getvalue(), "path": None}

    rows = [content("L", 8)] * 260 + [content("RGB", 8)] * 39 + [content("RGB", 9)]
    features = library.Features(picture=library.Image())
    library.Dataset.from_dict({"picture": rows}, features=features).save_to_disk(tmp_path / "sorted")
    split = opened(path=str(tmp_path / "sorted"))
    assert split.shape == (3, 8, 8)
    assert [note for note in split.notes if "1 image of other sizes" in note]


def test_a_column_without_a_readable_image_is_refused(library: ModuleType, tmp_path: Path) -> None:
    content = {"bytes": b"junk", "path": None}
    features = library.Features(picture=library.Image())
    library.Dataset.from_dict({"picture": [content] * 3}, features=features).save_to_disk(tmp_path / "junk")
    with pytest.raises(DataError, match="readable"):
        opened(path=str(tmp_path / "junk"))


@pytest.mark.usefixtures("hub")
def test_what_cannot_be_reached_is_one_sentence() -> None:
    with pytest.raises(DataError, match=r"hugging-face owner/none: cannot be loaded \(Couldn't reach") as caught:
        opened(path="owner/none")
    assert "\n" not in str(caught.value)


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError, match=r"pip install 'convae\[hugging-face\]'"):
        opened()


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The library itself, with a cache of its own and nothing to show."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    datasets.disable_progress_bars()
    return narrow(ModuleType, datasets)


@pytest.fixture
def rows(library: ModuleType, photo: Callable[..., Image.Image]) -> Any:
    """Four rows in the library's own types, of which two have no image."""

    def content(seed: int) -> dict[str, bytes | None]:
        file = io.BytesIO()
        photo(seed=seed).save(file, "PNG")
        return {"bytes": file.getvalue(), "path": None}

    features = library.Features(
        picture=library.Image(),
        kind=library.ClassLabel(names=["cat", "dog"]),
        year=library.Value("int64"),
        place=library.Value("string"),
        weight=library.Value("float64"),
    )
    columns = {
        "picture": [content(0), {"bytes": b"junk", "path": None}, None, content(3)],
        "kind": [0, 1, 0, None],
        "year": [1999, 2001, 2001, 2003],
        "place": ["Rome", "Oslo", None, "Oslo"],
        "weight": [1.0, 2.0, 3.0, 4.5],
    }
    return library.Dataset.from_dict(columns, features=features)


@pytest.mark.parametrize("form", ["parquet", "saved", "saved in parts"])
def test_what_the_library_wrote_is_read(library: ModuleType, rows: Any, tmp_path: Path, form: str) -> None:
    folder = tmp_path / "pets"
    folder.mkdir()
    if form == "parquet":
        rows.to_parquet(folder / "train-00000-of-00001.parquet")
        rows.to_parquet(folder / "test-00000-of-00001.parquet")
    elif form == "saved":
        rows.save_to_disk(folder)
    else:
        library.DatasetDict({"test": rows, "train": rows}).save_to_disk(folder)
    split = opened(path=str(folder))
    parts = ["train"] if form == "saved" else ["train", "test"]
    assert split.source == "hugging-face pets"
    assert split.keys == [f"{part}/00000{row}" for part in parts for row in (0, 3)]
    assert [name for name, _ in split.skipped] == [f"{part}/00000{row}" for part in parts for row in (1, 2)]
    assert (split.classes, present(split.labels).tolist()) == (("cat", "dog"), [0, -1] * len(parts))
    assert split.shape == (3, 30, 40)


def test_columns_of_texts_and_numbers_may_be_the_label(rows: Any, tmp_path: Path) -> None:
    rows.save_to_disk(tmp_path / "pets")

    def labeled(name: str) -> Split:
        source = {"hugging-face": {"path": str(tmp_path / "pets"), "label": name}}
        return open_split(DataConfig(source=source), "all")

    assert (labeled("place").classes, present(labeled("place").labels).tolist()) == (("Oslo", "Rome"), [1, 0])
    assert (labeled("year").classes, present(labeled("year").labels).tolist()) == (None, [1999, 2003])
    for name, message in (("weight", "classes, strings or integers"), ("plce", "did you mean 'place'")):
        with pytest.raises(DataError, match=message):
            labeled(name)


@pytest.mark.usefixtures("library")
def test_a_folder_of_images_as_the_library_reads_it(tmp_path: Path, photo: Callable[..., Image.Image]) -> None:
    for number in range(6):
        path = tmp_path / "pets" / ("train" if number < 4 else "test") / ("cat" if number % 2 else "dog")
        path.mkdir(parents=True, exist_ok=True)
        photo(seed=number).save(path / f"{number}.png")
    (tmp_path / "pets" / "train" / "cat" / "1.png").write_bytes(b"junk")
    split = opened(path=str(tmp_path / "pets"))
    assert len(split) == 5
    assert len(split.skipped) == 1
    assert split.classes == ("cat", "dog")
    assert len(opened("test", path=str(tmp_path / "pets"))) == 2


@pytest.mark.usefixtures("library")
def test_a_column_of_contents_is_one_of_images_when_it_is_named(
    tmp_path: Path, photo: Callable[..., Image.Image]
) -> None:
    file = io.BytesIO()
    photo().save(file, "PNG")
    (tmp_path / "pets").mkdir()
    table = pyarrow.table({"blob": [file.getvalue(), b"junk", file.getvalue()], "y": [1, 2, 3]})
    parquet.write_table(table, tmp_path / "pets" / "whole.parquet")
    assert len(opened(path=str(tmp_path / "pets"), image="blob")) == 2
    with pytest.raises(DataError, match=r"no column of images.*image .*blob, y"):
        opened(path=str(tmp_path / "pets"))
    with pytest.raises(DataError, match="column y must hold images"):
        opened(path=str(tmp_path / "pets"), image="y")


@pytest.mark.usefixtures("library")
def test_pages_that_are_left_out_are_named_without_an_option_that_is_not_there(
    tmp_path: Path, photo: Callable[..., Image.Image]
) -> None:
    file = io.BytesIO()
    photo(mode="L").save(file, "TIFF", save_all=True, append_images=[photo(mode="L")])
    (tmp_path / "stacks").mkdir()
    table = pyarrow.table({"blob": [file.getvalue()], "y": [1]})
    parquet.write_table(table, tmp_path / "stacks" / "whole.parquet")
    (note,) = [note for note in opened(path=str(tmp_path / "stacks"), image="blob").notes if "pages" in note]
    assert "1 of 2" in note
    assert "pages: all" not in note
    assert "folder" in note


@pytest.mark.usefixtures("library")
def test_folders_that_are_not_there_or_hold_nothing_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in ("empty", "none"):
        with pytest.raises(DataError, match="cannot be loaded") as caught:
            opened(path=str(tmp_path / path))
        assert "\n" not in str(caught.value)


def test_its_range_is_that_of_other_images_for_the_model(library: ModuleType, tmp_path: Path) -> None:
    """As that of the files of a folder: a model sees all images on one scale."""
    path = tmp_path / "x.png"
    Image.fromarray(np.full((8, 8), 2048, np.uint16)).save(path)
    features = library.Features(picture=library.Image())
    library.Dataset.from_dict({"picture": [str(path)] * 3}, features=features).save_to_disk(tmp_path / "camera")
    trained: Any = {"hugging-face": {"path": str(tmp_path / "camera"), "range": [0, 4095]}}
    (batch,) = in_order(open_split(DataConfig(source=trained), "all"), 3)
    assert torch.equal(read_like(path, {"source": trained}, (1, 8, 8)).images[0], batch.images[0])
    for kind in ("folder", "hugging-face"):
        assert with_reading_options({kind: {"path": str(tmp_path)}}, trained)[1] == {"range": [0, 4095]}
