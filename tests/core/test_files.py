from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from convae.core import files
from convae.core.errors import OutputError
from convae.core.files import (
    append,
    new_folder,
    open_regular,
    read_bytes,
    recover_folder,
    remove_temporary_files,
    truncate,
    utf8_path,
    write_json,
    write_text,
)


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


@pytest.mark.parametrize("exchanges", [True, False])
def test_a_folder_takes_its_place_whole(tmp_path: Path, exchanges: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not exchanges:
        monkeypatch.setattr(files, "exchange", lambda *_: False)
    for content in ("old", "new"):
        with new_folder(tmp_path / "deep" / "model") as place:
            (place / content).write_text(content)
            assert place != tmp_path / "deep" / "model"
    assert names(tmp_path / "deep") == ["model"]
    assert names(tmp_path / "deep" / "model") == ["new"]


def test_a_failure_leaves_the_old_folder(tmp_path: Path) -> None:
    with new_folder(tmp_path / "model") as place:
        (place / "old").touch()
    with pytest.raises(ValueError, match="half way"), new_folder(tmp_path / "model") as place:
        (place / "new").touch()
        raise ValueError("half way")
    assert names(tmp_path) == ["model"]
    assert names(tmp_path / "model") == ["old"]


def test_a_crash_between_the_renames_is_put_right(tmp_path: Path) -> None:
    with new_folder(tmp_path / "model") as place:
        (place / "old").touch()
    (tmp_path / "model").rename(tmp_path / ".model.old")
    assert names(recover_folder(tmp_path / "model")) == ["old"]
    assert names(tmp_path) == ["model"]


def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "model", tmp_path / "file"):
        with pytest.raises(OutputError, match="cannot be written"), new_folder(place):
            pass
    assert names(tmp_path) == ["file"]


def test_what_dead_processes_left_is_removed_and_what_they_set_aside_is_put_back(tmp_path: Path) -> None:
    (tmp_path / ".model.old").mkdir()
    (tmp_path / ".model.old" / "weights").touch()
    (tmp_path / ".other.old").mkdir()
    (tmp_path / ".other.7.tmp").mkdir()
    (tmp_path / ".text.7.tmp").touch()
    for name in ("other", ".config"):
        (tmp_path / name).mkdir()
    remove_temporary_files(tmp_path)
    assert names(tmp_path) == [".config", "model", "other"]
    assert names(tmp_path / "model") == ["weights"]
    remove_temporary_files(tmp_path / "nowhere")


def test_text_is_added_and_cut_off(tmp_path: Path) -> None:
    append(tmp_path / "log", "ä\n")
    append(tmp_path / "log", "half")
    truncate(tmp_path / "log", 3)
    assert (tmp_path / "log").read_text(encoding="utf-8") == "ä\n"
    with pytest.raises(OutputError, match="cannot be written"):
        append(tmp_path, "text")
    with pytest.raises(OutputError, match="cannot be written"):
        truncate(tmp_path, 0)


OWNED, MARK = ("config.json", "README.md"), ("config.json", b"convae")


def put(folder: Path, **content: str) -> None:
    folder.mkdir()
    for name, text in content.items():
        (folder / name.replace("_", ".")).write_text(text)


@pytest.mark.parametrize(
    "content",
    [
        {"thesis_txt": "precious"},
        {"config_json": "of another library"},
        {"README_md": "mine"},
        {"config_json": "convae", "notes_txt": "mine"},
    ],
)
def test_a_folder_that_convae_did_not_make_is_left_alone(tmp_path: Path, content: dict[str, str]) -> None:
    put(tmp_path / "a", **content)
    before = {path.name: path.read_text() for path in (tmp_path / "a").iterdir()}
    with pytest.raises(OutputError, match="did not write"), new_folder(tmp_path / "a", OWNED, MARK):
        pass
    assert {path.name: path.read_text() for path in (tmp_path / "a").iterdir()} == before
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize(
    "content", [{}, {"config_json": "convae", "README_md": "x"}, {"config_json": "convae", "Thumbs_db": ""}]
)
def test_an_own_or_empty_folder_is_replaced(tmp_path: Path, content: dict[str, str]) -> None:
    put(tmp_path / "a", **content)
    with new_folder(tmp_path / "a", OWNED, MARK) as place:
        (place / "new").touch()
    assert names(tmp_path / "a") == ["new"]


def test_a_link_to_a_folder_is_followed(tmp_path: Path) -> None:
    put(tmp_path / "disk")
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    with new_folder(tmp_path / "link", OWNED, MARK) as place:
        (place / "new").touch()
    assert (tmp_path / "link").is_symlink()
    assert names(tmp_path / "disk") == ["new"]


@pytest.mark.parametrize("written", [".", "..", "../a", "inner/.."])
def test_the_working_directory_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    put(tmp_path / "a")
    monkeypatch.chdir(tmp_path / "a")
    with pytest.raises(OutputError), new_folder(Path(written), OWNED, MARK):
        pass


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
