from __future__ import annotations

from pathlib import Path

import pytest

from convae.core.errors import OutputError
from convae.core.files import new_folder, settled, write_json, write_text


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


def test_a_folder_takes_its_place_whole(tmp_path: Path) -> None:
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
    assert names(settled(tmp_path / "model")) == ["old"]
    assert names(tmp_path) == ["model"]


def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"), new_folder(tmp_path / "file" / "model"):
        pass
