"""Failures of the world are tried again, end a build that they do not leave, and are never held against an image."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from PIL import Image

from convae.core.errors import DataError
from convae.core.files import open_regular
from convae.data import DataConfig, open_split
from convae.data.images import reading
from convae.data.images.reading import decode
from convae.data.io import retries
from convae.data.sources.base import image_files

WORLD = {
    name: lambda number=number: OSError(number, os.strerror(number))
    for name, number in {
        "input/output": errno.EIO,
        "too many files": errno.EMFILE,
        "stale handle": errno.ESTALE,
        "gone": errno.ENOENT,
        "timed out": errno.ETIMEDOUT,
        "no permission": errno.EACCES,
    }.items()
} | {"memory": MemoryError, "torch's memory": lambda: RuntimeError("DefaultCPUAllocator: can't allocate memory")}


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "PAUSES", (0.001, 0.001, 0.001))
    monkeypatch.setattr(retries, "_memory_is_short", lambda: True)


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Makes reading of the image 3.png fail for the first `times`; None for always."""

    def install(error: Callable[[], Exception], times: int | None = None, name: str = "3.png") -> None:
        tries = count()

        def guarded(path: Any, *arguments: Any, **options: Any) -> Any:
            if path.name == name and (times is None or next(tries) < times):
                raise error()
            return decode(path, *arguments, **options)

        monkeypatch.setattr(image_files, "decode", guarded)

    return install


@pytest.mark.parametrize("fault", WORLD)
def test_a_passing_failure_costs_no_image(pictures: Path, fail: Callable[..., None], fault: str) -> None:
    fail(WORLD[fault], times=2)
    split = open_split(DataConfig(source=pictures, size=8), "all")
    assert (len(split), split.skipped) == (10, [])


@pytest.mark.parametrize("fault", WORLD)
def test_a_lasting_failure_ends_the_build_and_is_forgotten(
    pictures: Path, fail: Callable[..., None], fault: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(WORLD[fault])
    with pytest.raises(DataError) as caught:
        open_split(DataConfig(source=pictures, size=8), "all")
    assert "cat/3.png" in str(caught.value)
    assert not [path for path in (cache / "stores").iterdir() if path.is_dir() and not path.name.startswith(".")]
    monkeypatch.undo()
    monkeypatch.setenv("CONVAE_CACHE", str(cache))
    split = open_split(DataConfig(source=pictures, size=8), "all")
    assert (len(split), split.skipped) == (10, [])


@pytest.mark.parametrize(
    "error", [OSError("image file is truncated"), ValueError("bad"), SyntaxError("broken PNG file")]
)
def test_what_is_wrong_with_an_image_is_held_against_it_alone(
    pictures: Path, fail: Callable[..., None], error: OSError | SyntaxError | ValueError
) -> None:
    fail(lambda: error)
    split = open_split(DataConfig(source=pictures, size=8), "all")
    assert split.skipped == [("cat/3.png", str(error))]


def test_memory_that_an_image_alone_asks_for_is_its_fault(
    pictures: Path, fail: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "_memory_is_short", lambda: False)
    fail(MemoryError)
    assert [name for name, _ in open_split(DataConfig(source=pictures, size=8), "all").skipped] == ["cat/3.png"]


def test_what_was_decoded_before_a_failure_is_not_decoded_again(
    tmp_path: Path,
    photo: Callable[..., Image.Image],
    fail: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "album"
    folder.mkdir()
    for number in range(40):
        photo(seed=number).save(folder / f"{number:02}.png")
    fail(WORLD["input/output"], name="39.png")
    with pytest.raises(DataError, match=r"39\.png"):
        open_split(DataConfig(source=folder, size=256), "all")
    spy = Mock(side_effect=decode)
    monkeypatch.setattr(image_files, "decode", spy)
    assert len(open_split(DataConfig(source=folder, size=256), "all")) == 40
    read = [call.args[0].name for call in spy.call_args_list]
    assert "39.png" in read
    assert len(read) < 40


@pytest.mark.parametrize("when", ["scan", "stamp", "survey"])
@pytest.mark.parametrize("lasting", [False, True])
def test_a_share_that_is_away_while_it_is_listed_loses_nothing(
    pictures: Path, monkeypatch: pytest.MonkeyPatch, when: str, lasting: bool
) -> None:
    tries = count()

    def away(path: Path | str) -> None:
        if "cat" in os.fspath(path) and (lasting or next(tries) < 2):
            raise OSError(errno.EIO, "Input/output error")

    def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Path | str, *rest: Any, **more: Any) -> Any:
            away(path)
            return function(path, *rest, **more)

        return call

    if when == "survey":
        monkeypatch.setattr(reading, "open_regular", guarded(open_regular))
    else:
        target = "scandir" if when == "scan" else "stat"
        monkeypatch.setattr(os, target, guarded(getattr(os, target)))
    if lasting:
        with pytest.raises(DataError, match="cat"):
            open_split(DataConfig(source=pictures), "all")
    else:
        assert len(open_split(DataConfig(source=pictures), "all")) == 10


def test_a_file_that_may_not_be_read_is_skipped_until_it_may(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: not path.endswith("3.png") and access(path, mode))
    split = open_split(DataConfig(source=pictures, size=8), "all")
    assert split.skipped == [("cat/3.png", "Permission denied")]
    monkeypatch.setattr(os, "access", access)
    split = open_split(DataConfig(source=pictures, size=8), "all")
    assert (len(split), split.skipped) == (10, [])


def test_a_link_that_leads_nowhere_is_skipped_until_it_leads_somewhere(
    pictures: Path, tmp_path: Path, photo: Callable[..., Image.Image]
) -> None:
    (pictures / "cat" / "link.png").symlink_to(tmp_path / "later.png")
    split = open_split(DataConfig(source=pictures, size=8), "all")
    assert split.skipped == [("cat/link.png", "No such file or directory")]
    photo().save(tmp_path / "later.png")
    assert len(open_split(DataConfig(source=pictures, size=8), "all")) == 11
