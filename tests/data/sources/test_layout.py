"""Folders as people have them: what is taken for a part, a class or neither, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from narrow import present
from PIL import Image

from convae.data import DataConfig, open_split
from convae.data.sources.base.layout import read_annotations, read_layout


def layout(*paths: Any, **annotations: Any) -> Any:
    """The class and part of each path, and the notes; `annotations` by folder, with `_` for `/`."""
    tables = {folder.replace("_", "/"): table for folder, table in annotations.items()}
    found = read_layout(paths, tables)
    classes = None
    if found.classes is not None:
        named = present(found.classes.classes)
        classes = [None if number < 0 else named[number] for number in found.classes.values]
    parts = None if found.parts is None else "".join("tve"[part] for part in found.parts)
    return classes, parts, " | ".join(found.notes)


@pytest.mark.parametrize(
    ("paths", "classes", "parts"),
    [
        (["cat/1.png", "dog/2.png"], ["cat", "dog"], None),
        (["cat/1.png", "cat/2.png"], ["cat", "cat"], None),
        (["a.png", "b.png"], None, None),
        (["cat/young/1.png", "cat/old/2.png", "dog/3.png"], ["cat", "cat", "dog"], None),
        (["set/cat/1.png", "set/dog/2.png"], ["cat", "dog"], None),
        (["data/set/cat/1.png", "data/set/dog/2.png"], ["cat", "dog"], None),
        (["train/cat/1.png", "train/dog/2.png", "test/cat/3.png"], ["cat", "dog", "cat"], "tte"),
        (["s/train/cat/1.png", "s/train/dog/2.png", "s/val/cat/3.png"], ["cat", "dog", "cat"], "ttv"),
        (["train/1.png", "valid/2.png", "test/3.png"], None, "tve"),
        (["Train/cat/1.png", "TEST/cat/3.png"], ["cat", "cat"], "te"),
        (["train2017/1.png", "val2017/2.png"], None, "tv"),
        (["training_set/cat/1.png", "test_set/cat/2.png"], ["cat", "cat"], "te"),
        (["training_set/training_set/cat/1.png", "test_set/test_set/cat/2.png"], ["cat", "cat"], "te"),
        (["train/train/1.png", "train/train/2.png"], None, None),
        (["images/train/cat/1.png", "images/val/cat/2.png"], ["cat", "cat"], "tv"),
        (["images/1.png", "images/2.png"], None, None),
        (["cat/images/1.png", "dog/images/2.png"], ["cat", "dog"], None),
        (["images/1.png", "masks/1.png"], None, None),
        (["masks/1.png", "scans/2.png"], ["masks", "scans"], None),
        (["train/images/1.png", "train/masks/1.png", "test/images/2.png"], None, "tte"),
        (["bus/1.png", "car/2.png", "train/3.png"], ["bus", "car", "train"], None),
        (["train/cat/1.png", "test/cat/2.png", "unlabeled/3.png"], ["cat", "cat", None], "tet"),
        (["train/cat/1.png", "unlabeled/3.png"], ["cat", None], "tt"),
        (["train/cat/1.png", "test/cat/2.png", "sheet.png"], ["cat", "cat", None], "tet"),
        (
            ["train/cat/a/1.png", "train/cat/b/2.png", "test/cat/3.png", "test/dog/4.png"],
            ["cat", "cat", "cat", "dog"],
            "ttee",
        ),
        (["cat/1.png", "dog/2.png", "sheet.png"], ["cat", "dog", None], None),
        (["1.png", "2.png", "3.png", "old/4.png"], None, None),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and all(value) else "",
)
def test_what_folders_say(paths: list[str], classes: list[str | None] | list[str] | None, parts: str | None) -> None:
    assert layout(*paths)[:2] == (classes, parts)


def test_tiny_imagenet_has_the_classes_of_its_annotations_and_no_others() -> None:
    train = [f"tiny/train/n0{number % 2}/images/{number}.JPEG" for number in range(8)]
    val = [f"tiny/val/images/val_{number}.JPEG" for number in range(4)]
    test = [f"tiny/test/images/test_{number}.JPEG" for number in range(3)]
    table = read_annotations("".join(f"val_{number}.JPEG\tn0{number % 2}\t0\t0\t9\t9\n" for number in range(4)))
    classes, parts, notes = layout(*train, *val, *test, tiny_val=table)
    assert classes == ["n00", "n01"] * 4 + ["n00", "n01"] * 2 + [None] * 3
    assert parts == "t" * 8 + "v" * 4 + "e" * 3
    for fact in (
        "tiny",
        "train 8, validation 4, test 3",
        "classes of 4 images from annotation",
        "3 images of test",
        test[0],
    ):
        assert fact in notes
    assert layout(*train, *val)[0] == ["n00", "n01"] * 4 + [None] * 4


@pytest.mark.parametrize("other", ["CAFÉ", "Café ", "Cafe\u0301", "Caf\uff45\u0301"])
def test_classes_that_look_alike_are_named(other: str) -> None:
    classes, _, notes = layout("Café/1.png", f"{other}/2.png", "dog/3.png")
    assert set(classes) == {"Café", other, "dog"}
    assert ascii(other) in notes
    assert "dog" not in notes
    assert "alike" not in layout("Café/1.png", "cafe/2.png", "dog/3.png")[2]


def test_what_has_no_class_is_named() -> None:
    for paths, fact in (
        (["cat/1.png", "dog/2.png", "sheet.png"], "1 image, such as sheet.png"),
        (
            ["train/cat/1.png", "test/cat/2.png", "sheet.png"],
            "1 image outside of the part folders, such as sheet.png",
        ),
        (["1.png", "2.png", "3.png", "old/4.png"], "only 1 of 4"),
        (["train/cat/1.png", "train/cat/2.png", "test/dog/3.png"], "1 class without training images, such as dog"),
    ):
        assert fact in layout(*paths)[2]


@pytest.fixture
def tiny(tmp_path: Path, photo: Callable[..., Image.Image]) -> Path:
    """A small set as Tiny ImageNet comes, one folder deeper than one points."""
    inner = tmp_path / "tiny-imagenet" / "tiny-imagenet-200"
    for part, count in (
        ("train/n01/images/n01", 6),
        ("train/n02/images/n02", 6),
        ("val/images/val", 4),
        ("test/images/test", 5),
    ):
        for number in range(count):
            path = inner / f"{part}_{number}.JPEG"
            path.parent.mkdir(parents=True, exist_ok=True)
            photo(12, 12, seed=number).save(path)
    rows = "".join(f"val_{number}.JPEG\tn0{1 + number % 2}\t0\t0\t9\t9\n" for number in range(4))
    (inner / "val" / "val_annotations.txt").write_text("\ufeff" + rows.replace("\n", "\r\n"), "utf-8")
    return tmp_path / "tiny-imagenet"


def test_official_parts_are_found_a_folder_deeper(tiny: Path) -> None:
    for source in (tiny, tiny / "tiny-imagenet-200"):
        splits = {part: open_split(DataConfig(source=source), part) for part in ("train", "validation", "test")}
        assert {part: len(split) for part, split in splits.items()} == {"train": 12, "validation": 4, "test": 5}
        assert splits["train"].classes == ("n01", "n02")
        assert present(splits["validation"].labels).tolist() == [0, 1, 0, 1]
        assert present(splits["test"].labels).tolist() == [-1] * 5


def test_a_change_of_the_annotations_is_noticed(tiny: Path) -> None:
    config = DataConfig(source=tiny)
    before = open_split(config, "validation")
    table = tiny / "tiny-imagenet-200" / "val" / "val_annotations.txt"
    table.write_text(table.read_text().replace("n02", "n01"))
    after = open_split(config, "validation")
    assert present(after.labels).tolist() == [0] * 4
    assert after.content_hash != before.content_hash


def test_what_systems_leave_beside_images_is_left_out(pictures: Path, photo: Callable[..., Image.Image]) -> None:
    before = open_split(DataConfig(source=pictures), "all").keys
    for name in (
        "__MACOSX/cat/._1.png",
        "@eaDir/1.png/thumb.jpg",
        ".ipynb_checkpoints/1.png",
        "$RECYCLE.BIN/2.png",
        "cat/.3.png",
    ):
        (pictures / name).parent.mkdir(parents=True, exist_ok=True)
        photo().save(pictures / name)
    for name in ("Thumbs.db", "cat/.DS_Store", "cat/desktop.ini"):
        (pictures / name).write_bytes(b"x")
    split = open_split(DataConfig(source=pictures), "all")
    assert (split.keys, split.notes) == (before, [])


def test_files_that_may_be_meant_as_images_are_counted(pictures: Path) -> None:
    for name in ("cat/a.heic", "cat/b.HEIC", "scan.dcm", "notes.txt"):
        (pictures / name).write_bytes(b"x")
    (note,) = open_split(DataConfig(source=pictures), "all").notes
    assert "1 .dcm, 2 .heic" in note
    assert "txt" not in note


def test_a_table_beside_images_without_classes_is_pointed_at(pictures: Path) -> None:
    flat = pictures / "cat"
    (flat / "labels.csv").write_text("filename,label\n1.png,a\n")
    (flat / "classes.tsv").write_text('"file"\tclass\n1.png\ta\n')
    (flat / "other.csv").write_text("a,b\n1,2\n")
    notes = " ".join(open_split(DataConfig(source=flat), "all").notes)
    assert str(flat / "labels.csv") in notes
    assert str(flat / "classes.tsv") in notes
    assert "other.csv" not in notes


def test_equal_stems_with_different_endings_both_stay(tmp_path: Path, photo: Callable[..., Image.Image]) -> None:
    (tmp_path / "set").mkdir()
    photo(seed=1).save(tmp_path / "set" / "a.png")
    photo(seed=2).save(tmp_path / "set" / "a.bmp")
    split = open_split(DataConfig(source=tmp_path / "set"), "all")
    assert split.keys == ["a.bmp", "a.png"]
    assert not np.array_equal(split.images([0]), split.images([1]))
