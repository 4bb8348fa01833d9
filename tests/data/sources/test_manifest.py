from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from narrow import present
from PIL import Image

from convae.core.errors import DataError
from convae.data import DataConfig, open_split
from convae.data.sources.base import PARTS

ROWS = [
    ("dog/0.png", "dog", "train"),
    ("cat/1.png", "cat", "val"),
    ("dog/2.png", "", "test"),
    ("cat/3.png", "cat", "train"),
]


def write(folder: Path, suffix: str) -> Path:
    path = folder / f"table.{suffix}"
    if suffix == "csv":
        path.write_text("file_name,label,split\r\n" + "".join(",".join(row) + "\r\n" for row in ROWS))
    else:
        rows = [dict(zip(("file_name", "label", "split"), (a, b or None, c), strict=True)) for a, b, c in ROWS]
        path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_table_says_which_images_what_they_are_and_where_they_belong(pictures: Path, suffix: str) -> None:
    config = DataConfig(source=str(write(pictures, suffix)))
    split = open_split(config, "all")
    assert split.keys == [path for path, _, _ in ROWS]
    assert split.classes == ("cat", "dog")
    assert present(split.labels).tolist() == [1, 0, -1, 0]
    assert open_split(config, "test").keys == ["dog/2.png"]
    assert open_split(config, "validation").keys == ["cat/1.png"]
    assert open_split(config, "train").keys == ["dog/0.png", "cat/3.png"]


@pytest.mark.parametrize("separator", [";", "\t"])
@pytest.mark.parametrize("name", ["t.csv", "t.tsv"])
def test_tables_of_spreadsheets_are_read(pictures: Path, separator: str, name: str) -> None:
    lines = ("file_name,label,split", *(",".join(row) for row in ROWS))
    (pictures / name).write_text("\ufeff" + "\r\n".join(lines).replace(",", separator), "utf-8")
    split = open_split(DataConfig(source=str(pictures / name)), "all")
    assert (split.keys, present(split.labels).tolist()) == ([path for path, _, _ in ROWS], [1, 0, -1, 0])


def test_minus_one_among_numbers_is_no_class(pictures: Path) -> None:
    table = pictures / "t.csv"
    table.write_text("path,label\ncat/1.png,3\ncat/3.png,-1\ndog/0.png,0\n")
    split = open_split(DataConfig(source=str(table)), "all")
    assert (split.classes, present(split.labels).tolist()) == (("0", "3"), [1, -1, 0])
    assert any("label -1 of 1 row" in note for note in split.notes)
    table.write_text("path,label\ncat/1.png,+1\ncat/3.png,-1\ndog/0.png,0\n")
    assert open_split(DataConfig(source=str(table)), "all").classes == ("+1", "-1", "0")


def test_other_columns_can_be_the_label(pictures: Path) -> None:
    (pictures / "t.csv").write_text("image,mood,size\ncat/1.png,happy,1\ndog/0.png,sad,2\n")
    assert open_split(DataConfig(source=str(pictures / "t.csv")), "all").labels is None
    split = open_split(DataConfig(source=str(pictures / "t.csv"), label="mood"), "all")
    assert (split.classes, present(split.labels).tolist()) == (("happy", "sad"), [0, 1])


def test_a_missing_file_is_skipped_and_a_changed_row_noticed(pictures: Path) -> None:
    table = pictures / "t.csv"
    table.write_text("path,label\ncat/1.png,a\nnone.png,b\n")
    split = open_split(DataConfig(source=str(table)), "all")
    assert (split.keys, [name for name, _ in split.skipped]) == (["cat/1.png"], ["none.png"])
    table.write_text("path,label\ncat/1.png,c\nnone.png,b\n")
    assert open_split(DataConfig(source=str(table)), "all").classes == ("b", "c")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "", "lists no images"),
        ("t.csv", "path,label\n", "lists no images"),
        ("t.csv", "path,label\na.png\n", "line 2: "),
        ("t.csv", "path\na.png,b\n", "line 2: "),
        ("t.csv", "place\na.png\n", "unknown column of paths"),
        ("t.csv", "path\na.png\na.png\n", "lists a.png more than once"),
        ("t.csv", "path,split\na.png,practice\n", "'practice' is not a part"),
        ("t.csv", 'path\n"a', "not a CSV table"),
        ("t.csv", "path,label,label\na.png,b,c\n", "2 columns named 'label'"),
        ("t.csv", b"path\n\xff.png\n", "not a text file in UTF-8"),
        ("t.jsonl", '{"path": "a.png", "label": 1, "label": 2}', "line 1: .*'label' .*twice"),
        ("t.jsonl", "{}\n[1]\n", "line 2: must be a JSON object, got list"),
        ("t.jsonl", "{'path': 1}\n", "line 1: not JSON"),
    ],
)
def test_faulty_tables_are_named_with_the_line(
    tmp_path: Path, photo: Callable[..., Image.Image], name: str, content: bytes | str, message: str
) -> None:
    photo().save(tmp_path / "a.png")
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message) as caught:
        open_split(DataConfig(source=str(tmp_path / name)), "all")
    assert name in str(caught.value)


def test_folders_name_the_official_parts(tmp_path: Path, photo: Callable[..., Image.Image]) -> None:
    for number, part in enumerate(("train", "val", "test")):
        for name in ("cat", "dog"):
            path = tmp_path / "set" / part / name / "0.png"
            path.parent.mkdir(parents=True)
            photo(seed=number).save(path)
    config = DataConfig(source=str(tmp_path / "set"))
    for split, part in zip(PARTS, ("train", "val", "test"), strict=True):
        found = open_split(config, split)
        assert found.keys == [f"{part}/cat/0.png", f"{part}/dog/0.png"]
        assert (found.classes, present(found.labels).tolist()) == (("cat", "dog"), [0, 1])
        assert found.describe()["chosen"] == "official"


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_only_regular_files_are_opened(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "table.csv"
    os.mkfifo(path) if kind == "pipe" else path.symlink_to("/dev/zero")
    with pytest.raises(DataError, match="not a regular file"):
        open_split(DataConfig(source=str(path)), "all")
