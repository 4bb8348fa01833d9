from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from convae.core.errors import OutputError
from convae.core.files import append, open_regular, read_bytes, truncate, utf8_path, write_json, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_written_file_is_whole_and_alone(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")
    write_text(tmp_path / "a.txt", "größer")
    write_json(tmp_path / "b.json", {"z": 1, "a": "ä"})
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "größer"
    assert (tmp_path / "b.json").read_text(encoding="utf-8") == '{\n  "z": 1,\n  "a": "ä"\n}\n'
    assert names(tmp_path) == ["a.txt", "b.json"]


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "taken").mkdir()
    for place in (tmp_path / "file" / "a.txt", tmp_path / "taken"):
        with pytest.raises(OutputError, match=f"{place.name}: cannot be written"):
            write_text(place, "text")
    assert names(tmp_path) == ["file", "taken"]


def test_folders_on_the_way_are_made(tmp_path: Path) -> None:
    write_text(tmp_path / "deep" / "er" / "a.txt", "text")
    assert names(tmp_path / "deep" / "er") == ["a.txt"]


def test_text_is_added_and_cut_off(tmp_path: Path) -> None:
    append(tmp_path / "log", "ä\n")
    append(tmp_path / "log", "half")
    truncate(tmp_path / "log", 3)
    assert (tmp_path / "log").read_text(encoding="utf-8") == "ä\n"
    with pytest.raises(OutputError, match="cannot be written"):
        append(tmp_path, "text")
    with pytest.raises(OutputError, match="cannot be written"):
        truncate(tmp_path, 0)


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "log").symlink_to(tmp_path / "victim")
    with pytest.raises(OutputError, match="is a link"):
        truncate(tmp_path / "log", 0)
    with pytest.raises(OutputError, match="is a link"):
        append(tmp_path / "log", "x")
    assert (tmp_path / "victim").read_text() == "precious"


def test_a_name_that_is_no_utf8_is_written_and_read_back(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    write_json(tmp_path / "a.json", {"name": name})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["name"] == name
    write_text(tmp_path / "a.csv", name)
    assert (tmp_path / "a.csv").read_text(encoding="utf-8") == r"caf\udce9"


def test_reading_is_bounded_by_what_is_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 100)
    assert read_bytes(tmp_path / "a", 100) == b"x" * 100
    with pytest.raises(OSError, match="larger than"):
        read_bytes(tmp_path / "a", 99)
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(OSError, match=r"regular file|directory"), open_regular(path):
            pass


def test_libraries_get_a_path_in_utf8(tmp_path: Path) -> None:
    plain, bytes_of_latin_1 = tmp_path / "café", tmp_path / "caf\udce9"
    for path in (plain, bytes_of_latin_1):
        path.write_bytes(b"content")
        with utf8_path(path) as name:
            assert name.encode()
            assert Path(name).read_bytes() == b"content"
