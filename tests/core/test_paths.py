"""Paths by one rule, and names that become folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from convae.core.errors import ConfigError
from convae.core.paths import (
    MAX_NAME_BYTES,
    PathOrName,
    absolute_path,
    check_name,
    local_path,
    safe_name,
    with_absolute_paths,
)


class Taker:
    """What takes paths in every way that signatures write them."""

    def __init__(
        self,
        data_dirs: object,
        *,
        path: Path,
        others: Annotated[list[Path], "at least one"] | None = None,
        remote: PathOrName = "",
        text: str = "",
    ) -> None: ...


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_the_home_directory_is_written_out_and_nothing_else_changes(home: Path) -> None:
    assert local_path("~/a") == home / "a"
    assert local_path("~") == home
    for same in ("a/~/b", "./a~", "~nobody-of-that-name/a", "a=b.yaml", "c:d", "a\nb", "."):
        assert local_path(same) == Path(same)


@pytest.mark.parametrize("path", ["hf://user/model", "https://host/a?b=c", "s3://bucket", Path("hf://user/model")])
def test_a_url_is_no_path_and_is_shown_as_it_was_written(path: str | Path) -> None:
    shown = str(path).replace("hf:/u", "hf://u")
    with pytest.raises(ConfigError, match="URL") as caught:
        local_path(path)
    assert str(caught.value).startswith(f"{shown}: ")


def test_a_folder_that_is_called_like_a_scheme_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hf:" / "user").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert local_path("hf://user").is_dir()


def test_a_nul_is_in_no_path() -> None:
    with pytest.raises(ConfigError, match="NUL"):
        local_path("a\0b")


def test_dots_lead_where_the_system_goes(tmp_path: Path) -> None:
    (tmp_path / "far" / "inner").mkdir(parents=True)
    (tmp_path / "link").symlink_to("far/inner")
    assert absolute_path("link/../x", tmp_path) == tmp_path / "far" / "x"
    assert absolute_path("link/x", tmp_path) == tmp_path / "link" / "x"
    assert absolute_path("../x", tmp_path / "far") == tmp_path / "x"


def test_annotations_say_which_arguments_are_paths(tmp_path: Path, home: Path) -> None:
    (tmp_path / "here").mkdir()
    given: dict[str, Any] = {"path": "a", "others": ["b", "~/c"], "remote": "user/set", "text": "d", "unknown": "e"}
    found = with_absolute_paths(Taker, given, tmp_path)
    assert found == {**given, "path": str(tmp_path / "a"), "others": [str(tmp_path / "b"), str(home / "c")]}
    assert with_absolute_paths(Taker, found, Path("/elsewhere")) == found
    for local in ("here", "./missing", "~/x"):
        assert Path(with_absolute_paths(Taker, {"remote": local}, tmp_path)["remote"]).is_absolute()
    assert with_absolute_paths(Taker, {"path": 3, "others": {"a": 1}}, tmp_path) == {"path": 3, "others": {"a": 1}}
    with pytest.raises(ConfigError, match=r"^path: .*NUL"):
        with_absolute_paths(Taker, {"path": "a\0"}, tmp_path)


@pytest.mark.parametrize("name", ["digits-vae", "β = 1, z=8", "a b", "run.v2", "日本", "x" * MAX_NAME_BYTES, "console"])
def test_names_are_taken_as_they_are(name: str) -> None:
    assert check_name(name) == name == safe_name(name)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            " ",
            "a/b",
            "../x",
            "/abs",
            "a\\b",
            "..",
            ".",
            ".lock",
            "-rf",
            "a\nb",
            "a\0b",
            "\x1b]0;x\x07",
            "caf\udce9",
        ),
        *("con", "NUL.txt", "lpt1", "x" * (MAX_NAME_BYTES + 1), "日" * MAX_NAME_BYTES, "a ", " a", "a."),
    ],
)
def test_names_that_are_no_folders_of_their_own_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="must not"):
        check_name(name)
    assert check_name(safe_name(name))


@given(st.text(st.characters(exclude_categories=())))
@example("0\xa0.")
@example("- .a")
@example("NUL." + "x" * MAX_NAME_BYTES)
@example("CON" + " " * MAX_NAME_BYTES + "x")
def test_every_text_has_a_safe_name(text: str) -> None:
    assert check_name(safe_name(text))
