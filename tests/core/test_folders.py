from __future__ import annotations

from pathlib import Path

import pytest

from convae.core import folders
from convae.core.errors import OutputError
from convae.core.folders import new_folder, recover_folder, remove_temporary_files

OWNED, MARK = ("config.json", "README.md"), ("config.json", b"convae")


def put(folder: Path, **content: str) -> None:
    folder.mkdir()
    for name, text in content.items():
        (folder / name.replace("_", ".")).write_text(text)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("exchanges", [True, False])
def test_a_folder_takes_its_place_whole(tmp_path: Path, exchanges: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not exchanges:
        monkeypatch.setattr(folders, "exchange", lambda *_: False)
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
