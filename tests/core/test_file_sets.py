"""Sets of files are replaced as a whole, and nothing beside them is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from convae.core.errors import OutputError
from convae.core.file_sets import LIST, begin_file_set


def write_set(folder: Path, names: list[str], force: bool = False) -> None:
    for path in begin_file_set(folder, names, force=force):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("image")


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} - {LIST}


def test_a_smaller_set_leaves_nothing_of_the_larger_one(tmp_path: Path) -> None:
    write_set(tmp_path, ["a/0.png", "a/1.png", "b/0.png"])
    (tmp_path / "thesis.txt").write_text("precious")
    (tmp_path / "a" / "mine.png").write_text("precious")
    write_set(tmp_path, ["a/0.png"], force=True)
    assert files(tmp_path) == {"a/0.png", "a/mine.png", "thesis.txt"}
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("names", [["0.png"], ["other.png"]])
def test_a_set_is_not_mixed_with_an_earlier_one(tmp_path: Path, names: list[str]) -> None:
    write_set(tmp_path, ["0.png", "1.png"])
    with pytest.raises(OutputError, match="--force"):
        write_set(tmp_path, names)
    assert files(tmp_path) == {"0.png", "1.png"}


def test_a_list_that_leads_out_of_its_folder_removes_nothing(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "1.png").write_text("precious")
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    listed = ["../thesis.txt", str(tmp_path / "thesis.txt"), "link/1.png"]
    (folder / LIST).write_text(json.dumps(listed))
    write_set(folder, ["0.png"], force=True)
    assert (tmp_path / "thesis.txt").exists()
    assert (tmp_path / "elsewhere" / "1.png").exists()
