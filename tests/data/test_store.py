from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from convae.core.errors import DataError, OutputError
from convae.data import DataConfig, open_split
from convae.data.store import Form, open_store, survey

FORM = Form((2, 3), 3)


def stores(cache: Path) -> list[Path]:
    return [path for path in (cache / "stores").iterdir() if path.is_dir()]


def opened(source, form=FORM):
    return open_store(source, source.fingerprint(), form)


def test_images_are_read_once_and_never_again(numbered_source):
    source = numbered_source(10)
    first = opened(source)
    assert source.reads == 10
    second = opened(source)
    assert source.reads == 10
    np.testing.assert_array_equal(first.pixels, second.pixels)
    np.testing.assert_array_equal(second.pixels[:, 0, 0, 0], range(10))
    np.testing.assert_array_equal(second.labels, np.arange(10) % 3)
    np.testing.assert_array_equal(second.original_sizes, [[2, 3]] * 10)
    assert second.names == [str(index) for index in range(10)]


@pytest.mark.parametrize("other", [Form((4, 4), 3), Form((2, 3), 1), Form((2, 3), 3, "pad")])
def test_another_form_or_content_is_another_store(numbered_source, cache, other):
    opened(numbered_source(5))
    opened(numbered_source(5), other)
    opened(numbered_source(6))
    assert len(stores(cache)) == 3


def test_unreadable_images_are_skipped_and_listed_in_order(numbered_source):
    bad = frozenset({0, 3, 999})
    store = opened(numbered_source(1000, bad=bad))
    assert store.skipped == [(str(index), "broken on purpose") for index in sorted(bad)]
    good = [index for index in range(1000) if index not in bad]
    np.testing.assert_array_equal(store.pixels[:, 0, 0, 0], np.array(good) % 256)
    np.testing.assert_array_equal(store.labels, np.array(good) % 3)
    assert store.names == [str(index) for index in good]


def test_a_source_without_a_readable_image_is_refused(numbered_source, cache):
    with pytest.raises(DataError, match=r"none of the 3 images can be used; the first is 0 \(broken on purpose\)"):
        opened(numbered_source(3, bad=frozenset(range(3))))
    assert stores(cache) == []


def test_progress_is_told_up_to_the_end(numbered_source):
    told = []
    source = numbered_source(600)
    open_store(source, source.fingerprint(), FORM, lambda done, total, what: told.append((done, total, what)))
    counts = [done for done, _, _ in told]
    assert counts == sorted(counts)
    assert len(counts) > 1
    assert told[-1][:2] == (600, 600)


@pytest.mark.parametrize("name", ["pixels.bin", "arrays.npz", "names.json"])
@pytest.mark.parametrize("damage", ["shorter", "missing", "longer"])
def test_a_damaged_store_is_built_again(numbered_source, cache, name, damage):
    source = numbered_source(5)
    opened(source)
    (folder,) = stores(cache)
    path = folder / name
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1] if damage == "shorter" else path.read_bytes() + b"x")
    again = opened(source)
    assert source.reads == 10
    np.testing.assert_array_equal(again.pixels[:, 0, 0, 0], range(5))
    assert stores(cache) == [folder]


def test_an_index_that_is_missing_or_something_else_is_not_trusted(numbered_source, cache):
    source = numbered_source(5)
    opened(source)
    (folder,) = stores(cache)
    for content in ("[]", "null", "{}", '{"format": 1, "files": 3}', json.dumps({"format": 2, "files": {}})):
        (folder / "index.json").write_text(content)
        assert len(opened(source)) == 5
    (folder / "index.json").unlink()
    assert len(opened(source)) == 5
    assert source.reads == 35


def test_what_a_killed_process_left_is_removed(numbered_source, cache):
    source = numbered_source(5)
    opened(source)
    (folder,) = stores(cache)
    left = folder.with_name(f".{folder.name}.12345.tmp")
    folder.rename(left)
    assert len(opened(source)) == 5
    assert stores(cache) == [folder]


def test_a_cache_that_cannot_be_written_is_one_sentence(numbered_source, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("CONVAE_CACHE", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="set CONVAE_CACHE to a folder"):
        opened(numbered_source(3))
    with pytest.raises(OutputError, match="set CONVAE_CACHE to a folder"):
        survey(numbered_source(3), "x")


def test_a_survey_is_remembered_and_made_again_when_unreadable(numbered_source, cache, monkeypatch):
    source = numbered_source(3)
    found = survey(source, "a")
    monkeypatch.setattr(type(source), "survey", lambda *_: pytest.fail("surveyed again"))
    assert survey(source, "a") == found
    monkeypatch.undo()
    monkeypatch.setenv("CONVAE_CACHE", str(cache))
    (path,) = (cache / "surveys").iterdir()
    path.write_text("{")
    assert survey(source, "a") == found


BUILD = """
import sys, time
from convae.data import DataConfig, open_split
told = lambda done, total, what: (print(done, flush=True), time.sleep(float(sys.argv[2])))
print("ready", flush=True)
sys.stdin.readline()
print(open_split(DataConfig(source=sys.argv[1], size=256), "all", progress=told).content_hash)
"""


def builder(folder: Path, pause: float = 0.0) -> subprocess.Popen[str]:
    """Another process that is ready to build the store of a folder, and does so when it is sent a line."""
    command = [sys.executable, "-c", BUILD, str(folder), str(pause)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def send(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


@pytest.fixture
def album(tmp_path, photo) -> Path:
    """Enough images at 256 pixels for several chunks."""
    (tmp_path / "album").mkdir()
    for index in range(60):
        photo(seed=index).save(tmp_path / "album" / f"{index:02d}.png")
    return tmp_path / "album"


def test_two_processes_at_once_build_one_store(album, cache):
    processes = [builder(album, pause=0.05) for _ in range(2)]
    for process in processes:
        send(process)
    outputs = [process.communicate(timeout=60)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert outputs[0][-1] == outputs[1][-1]
    # Only one of them had to build: the other was told of no progress.
    assert sorted(len(output) > 1 for output in outputs) == [False, True]
    assert len(stores(cache)) == 1


def test_a_build_killed_in_the_middle_is_built_again(album, cache):
    process = builder(album, pause=0.3)
    send(process)
    assert process.stdout is not None
    assert 0 < int(process.stdout.readline()) < 60
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert [path.name[0] for path in stores(cache)] == ["."]
    split = open_split(DataConfig(source=album, size=256), "all")
    assert len(split) == 60
    assert len(stores(cache)) == 1
    assert [path.name[0] for path in stores(cache)] != ["."]
    again = open_split(DataConfig(source=album, size=256), "all", progress=lambda *_: pytest.fail("built again"))
    assert again.content_hash == split.content_hash
