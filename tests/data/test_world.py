"""Failures of the world are tried again, end a build that they do not leave, and are never held against an image."""

from __future__ import annotations

import errno
import os
from itertools import count

import pytest

from convae.core.errors import DataError
from convae.data import DataConfig, image_reading, open_split, world
from convae.data.image_reading import decode
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
def quickly(monkeypatch):
    monkeypatch.setattr(world, "PAUSES", (0.001, 0.001, 0.001))
    monkeypatch.setattr(world, "_memory_is_short", lambda: True)


@pytest.fixture
def fail(monkeypatch):
    """Makes reading of the image 3.png fail for the first `times`; None for always."""

    def install(error, times=None, name="3.png"):
        tries = count()

        def guarded(path, *arguments, **options):
            if path.name == name and (times is None or next(tries) < times):
                raise error()
            return decode(path, *arguments, **options)

        monkeypatch.setattr(image_files, "decode", guarded)

    return install


@pytest.mark.parametrize("fault", WORLD)
def test_a_passing_failure_costs_no_image(pictures, fail, fault):
    fail(WORLD[fault], times=2)
    split = open_split(DataConfig(source=pictures, size=8), "all")
    assert (len(split), split.skipped) == (10, [])


@pytest.mark.parametrize("fault", WORLD)
def test_a_lasting_failure_ends_the_build_and_is_forgotten(pictures, fail, fault, cache, monkeypatch):
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
def test_what_is_wrong_with_an_image_is_held_against_it_alone(pictures, fail, error):
    fail(lambda: error)
    split = open_split(DataConfig(source=pictures, size=8), "all")
    assert split.skipped == [("cat/3.png", str(error))]


def test_memory_that_an_image_alone_asks_for_is_its_fault(pictures, fail, monkeypatch):
    monkeypatch.setattr(world, "_memory_is_short", lambda: False)
    fail(MemoryError)
    assert [name for name, _ in open_split(DataConfig(source=pictures, size=8), "all").skipped] == ["cat/3.png"]


def test_what_was_decoded_before_a_failure_is_not_decoded_again(tmp_path, photo, fail, monkeypatch, cache):
    folder = tmp_path / "album"
    folder.mkdir()
    for number in range(40):
        photo(seed=number).save(folder / f"{number:02}.png")
    fail(WORLD["input/output"], name="39.png")
    with pytest.raises(DataError, match=r"39\.png"):
        open_split(DataConfig(source=folder, size=256), "all")
    read = []
    monkeypatch.setattr(
        image_files, "decode", lambda path, *rest, **more: read.append(path.name) or decode(path, *rest, **more)
    )
    assert len(open_split(DataConfig(source=folder, size=256), "all")) == 40
    assert "39.png" in read
    assert len(read) < 40


@pytest.mark.parametrize("when", ["scan", "stamp", "survey"])
@pytest.mark.parametrize("lasting", [False, True])
def test_a_share_that_is_away_while_it_is_listed_loses_nothing(pictures, monkeypatch, when, lasting):
    tries = count()

    def away(path):
        if "cat" in os.fspath(path) and (lasting or next(tries) < 2):
            raise OSError(errno.EIO, "Input/output error")

    def guarded(function):
        return lambda path, *rest, **more: (away(path), function(path, *rest, **more))[1]

    if when == "survey":
        monkeypatch.setattr(image_reading, "open_regular", guarded(image_reading.open_regular))
    else:
        target = "scandir" if when == "scan" else "stat"
        monkeypatch.setattr(os, target, guarded(getattr(os, target)))
    if lasting:
        with pytest.raises(DataError, match="cat"):
            open_split(DataConfig(source=pictures), "all")
    else:
        assert len(open_split(DataConfig(source=pictures), "all")) == 10


def test_a_file_that_may_not_be_read_is_skipped_until_it_may(pictures, monkeypatch):
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: not path.endswith("3.png") and access(path, mode))
    split = open_split(DataConfig(source=pictures, size=8), "all")
    assert split.skipped == [("cat/3.png", "Permission denied")]
    monkeypatch.setattr(os, "access", access)
    split = open_split(DataConfig(source=pictures, size=8), "all")
    assert (len(split), split.skipped) == (10, [])


def test_a_link_that_leads_nowhere_is_skipped_until_it_leads_somewhere(pictures, tmp_path, photo):
    (pictures / "cat" / "link.png").symlink_to(tmp_path / "later.png")
    split = open_split(DataConfig(source=pictures, size=8), "all")
    assert split.skipped == [("cat/link.png", "No such file or directory")]
    photo().save(tmp_path / "later.png")
    assert len(open_split(DataConfig(source=pictures, size=8), "all")) == 11
