from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from data.numbered import Numbered
from PIL import Image

from convae.core.errors import DataError, OutputError
from convae.data import DataConfig, Split, open_split
from convae.data.images.reading import decode
from convae.data.store.cache import open_store, survey
from convae.data.store.store import ImageFormat, Store

IMAGE_FORMAT = ImageFormat((2, 3), 3)


def stores(cache: Path) -> list[Path]:
    return [path for path in (cache / "stores").iterdir() if path.is_dir()]


def levels(store: Store) -> list[int]:
    """The value that fills each image of a numbered source."""
    return store.gather(np.arange(len(store)))[:, 0, 0, 0].tolist()


def opened(source: Numbered, image_format: ImageFormat = IMAGE_FORMAT) -> Store:
    return open_store(source, source.fingerprint(), image_format)


def test_images_are_read_once_and_never_again() -> None:
    source = Numbered(10)
    first = opened(source)
    assert source.reads == 10
    second = opened(source)
    assert source.reads == 10
    assert levels(first) == levels(second) == list(range(10))
    np.testing.assert_array_equal(second.columns["class"].values, np.arange(10) % 3)
    np.testing.assert_array_equal(second.original_sizes, [[2, 3]] * 10)
    assert second.names == [str(index) for index in range(10)]


@pytest.mark.parametrize("other", [ImageFormat((4, 4), 3), ImageFormat((2, 3), 1), ImageFormat((2, 3), 3, "pad")])
def test_another_form_or_content_is_another_store(cache: Path, other: ImageFormat) -> None:
    opened(Numbered(5))
    opened(Numbered(5), other)
    opened(Numbered(6))
    assert len(stores(cache)) == 3


def test_unreadable_images_are_skipped_and_listed_in_order() -> None:
    bad = frozenset({0, 3, 999})
    store = opened(Numbered(1000, bad=bad))
    assert store.skipped == [(str(index), "broken on purpose") for index in sorted(bad)]
    good = [index for index in range(1000) if index not in bad]
    assert levels(store) == [index % 256 for index in good]
    np.testing.assert_array_equal(store.columns["class"].values, np.array(good) % 3)
    table = (store.folder / "skipped.csv").read_text().splitlines()
    assert table[:2] == ["name,reason", "0,broken on purpose"]
    assert len(table) == 4
    assert store.names == [str(index) for index in good]


def test_images_that_fail_together_go_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("convae.data.store.chunks.preprocess_batch", fail)
    assert levels(opened(Numbered(10))) == list(range(10))


def test_a_source_without_a_readable_image_is_refused(cache: Path) -> None:
    with pytest.raises(DataError, match=r"no readable image among 3 images.*0 \(broken on purpose\)"):
        opened(Numbered(3, bad=frozenset(range(3))))
    assert stores(cache) == []


def test_progress_is_told_up_to_the_end() -> None:
    told = []
    source = Numbered(600)
    open_store(source, source.fingerprint(), IMAGE_FORMAT, lambda done, total, what: told.append((done, total, what)))
    counts = [done for done, _, _ in told]
    assert counts == sorted(counts)
    assert len(counts) > 1
    assert told[0] == (0, 600, f"storing {source.name}, 0.0 MB (images)")
    assert told[-1][:2] == (600, 600)


@pytest.mark.parametrize("name", ["pixels.bin", "arrays.npz", "names.json"])
@pytest.mark.parametrize("damage", ["shorter", "missing", "longer"])
def test_a_damaged_store_is_built_again(cache: Path, name: str, damage: str) -> None:
    source = Numbered(5)
    opened(source)
    (folder,) = stores(cache)
    path = folder / name
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1] if damage == "shorter" else path.read_bytes() + b"x")
    again = opened(source)
    assert source.reads == 10
    assert levels(again) == list(range(5))
    assert stores(cache) == [folder]


@pytest.mark.parametrize("name", ["arrays.npz", "names.json", "skipped.csv", "index.json"])
@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_a_flipped_bit_beside_the_pixels_is_noticed_and_mended(cache: Path, name: str, place: float) -> None:
    source = Numbered(5, bad=frozenset({3}))
    opened(source)
    (folder,) = stores(cache)
    content = bytearray((folder / name).read_bytes())
    content[int(place * len(content))] ^= 1
    (folder / name).write_bytes(content)
    assert levels(opened(source)) == [0, 1, 2, 4]
    assert source.reads == 10


def test_a_flipped_bit_in_an_image_is_noticed_when_the_image_is_used(cache: Path) -> None:
    opened(Numbered(5))
    (folder,) = stores(cache)
    content = bytearray((folder / "pixels.bin").read_bytes())
    content[3 * IMAGE_FORMAT.image_bytes + 7] ^= 1
    (folder / "pixels.bin").write_bytes(content)
    store = opened(Numbered(5))
    assert store.gather(np.array([0, 4, 2])).shape == (3, 3, 2, 3)
    with pytest.raises(DataError, match="3 changed on the disk") as caught:
        store.gather(np.array([2, 3]))
    assert str(folder) in str(caught.value)


def test_an_index_that_is_missing_or_something_else_is_not_trusted(cache: Path) -> None:
    source = Numbered(5)
    opened(source)
    (folder,) = stores(cache)
    for content in ("[]", "null", "{}", '{"files": 3}', json.dumps({"files": {}, "sha256": ""})):
        (folder / "index.json").write_text(content)
        assert len(opened(source)) == 5
    (folder / "index.json").unlink()
    assert len(opened(source)) == 5
    assert source.reads == 35


def test_a_cache_that_cannot_be_written_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CONVAE_CACHE", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="CONVAE_CACHE"):
        opened(Numbered(3))
    with pytest.raises(OutputError, match="CONVAE_CACHE"):
        survey(Numbered(3), "x")


def test_a_survey_is_remembered_and_made_again_when_unreadable(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Numbered(3)
    found = survey(source, "a")
    monkeypatch.setattr(type(source), "survey", lambda *_, **__: pytest.fail("surveyed again"))
    assert survey(source, "a") == found
    monkeypatch.undo()
    monkeypatch.setenv("CONVAE_CACHE", str(cache))
    (path,) = (cache / "surveys").iterdir()
    path.write_text("{")
    assert survey(source, "a") == found


BUILD = """
import sys, time
from convae.data import DataConfig, Split, open_split
told = lambda done, total, what: (print(done, flush=True), time.sleep(float(sys.argv[2])))
print("ready", flush=True)
sys.stdin.readline()
print(open_split(DataConfig(source=sys.argv[1], size=256), "all", progress=told).content_hash)
"""


def builder(folder: Path, pause: float) -> subprocess.Popen[str]:
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
def album(tmp_path: Path, photo: Callable[..., Image.Image]) -> Path:
    """Enough images at 256 pixels for several chunks."""
    (tmp_path / "album").mkdir()
    for index in range(60):
        photo(seed=index).save(tmp_path / "album" / f"{index:02d}.png")
    return tmp_path / "album"


def test_two_processes_at_once_build_one_store(album: Path, cache: Path) -> None:
    process = builder(album, pause=0.3)
    send(process)
    assert process.stdout is not None
    assert process.stdout.readline()
    # The other process builds: this one reports no progress.
    reported: list[int] = []
    split = open_split(DataConfig(source=album, size=256), "all", progress=lambda done, *_: reported.append(done))
    assert reported == []
    assert process.communicate()[0].split()[-1] == split.content_hash
    assert process.returncode == 0
    assert len(stores(cache)) == 1


def test_a_killed_build_goes_on_where_it_stopped(album: Path, cache: Path) -> None:
    process = builder(album, pause=0.3)
    send(process)
    assert process.stdout is not None
    seen = [int(process.stdout.readline()) for _ in range(3)]
    assert 0 < seen[-1] < 60
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert [path.name[0] for path in stores(cache)] == ["."]
    reported: list[int] = []
    split = open_split(DataConfig(source=album, size=256), "all", progress=lambda done, *_: reported.append(done))
    assert min(reported[1:]) > seen[-2]
    assert [path.name[0] for path in stores(cache)] != ["."]
    fresh = reference(album, cache)
    assert (split.content_hash, split.keys) == (fresh.content_hash, fresh.keys)
    split.images(range(60))


def reference(album: Path, cache: Path) -> Split:
    """The same images, built at once and without anything known."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONVAE_CACHE", str(cache / "elsewhere"))
        return open_split(DataConfig(source=album, size=256), "all")


@pytest.mark.parametrize("damage", ["cut journal", "cut pixels", "flipped pixel", "lost pixels", "junk line"])
def test_only_what_is_sound_of_an_unfinished_build_is_gone_on_with(album: Path, cache: Path, damage: str) -> None:
    def stopping(done: int, *_: object) -> None:
        if done >= 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_split(DataConfig(source=album, size=256), "all", progress=stopping)
    (partial,) = stores(cache)
    journal, pixels = partial / "journal.jsonl", partial / "pixels.bin"
    if damage == "cut journal":
        journal.write_bytes(journal.read_bytes()[:-5])
    elif damage == "junk line":
        journal.write_bytes(journal.read_bytes() + b'{"key": 3}\n[]\n')
    else:
        content = bytearray(pixels.read_bytes())
        content[len(content) // 2] ^= damage == "flipped pixel"
        end = {"cut pixels": len(content) - 9, "lost pixels": 0}.get(damage, len(content))
        pixels.write_bytes(content[:end])
    split = open_split(DataConfig(source=album, size=256), "all")
    split.images(range(60))
    assert split.content_hash == reference(album, cache).content_hash


def test_only_new_and_changed_files_are_decoded(
    album: Path, cache: Path, photo: Callable[..., Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    spy = Mock(side_effect=decode)
    monkeypatch.setattr("convae.data.sources.base.image_files.decode", spy)
    open_split(DataConfig(source=album, size=256), "all")
    assert spy.call_count == 60
    spy.reset_mock()
    photo(seed=99).save(album / "30.png")
    photo(seed=98).save(album / "005.png")
    (album / "07.png").unlink()
    (album / "08.png").write_text("no image any more")
    split = open_split(DataConfig(source=album, size=256), "all")
    assert sorted(call.args[0].name for call in spy.call_args_list) == ["005.png", "08.png", "30.png"]
    assert [name for name, _ in split.skipped] == ["08.png"]
    assert len(split) == 59
    split.images(range(59))
    # The store of what the folder held before is gone.
    assert len(stores(cache)) == 1
    fresh = reference(album, cache)
    assert (split.content_hash, split.keys) == (fresh.content_hash, fresh.keys)


def test_a_damaged_image_is_not_taken_over(album: Path, cache: Path, photo: Callable[..., Image.Image]) -> None:
    open_split(DataConfig(source=album, size=256), "all")
    (folder,) = stores(cache)
    content = bytearray((folder / "pixels.bin").read_bytes())
    content[100] ^= 1
    (folder / "pixels.bin").write_bytes(content)
    photo(seed=98).save(album / "new.png")
    split = open_split(DataConfig(source=album, size=256), "all")
    split.images(range(61))
    assert split.content_hash == reference(album, cache).content_hash


def test_a_full_disk_is_announced_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1 << 20, total=1 << 40))
    source = Numbered(5)
    with pytest.raises(OutputError) as caught:
        opened(source)
    for fact in ("5 decoded images", "0.0 MB", "1.0 MB are free", "268 MB", "CONVAE_CACHE"):
        assert fact in str(caught.value)
    assert source.reads == 0


def test_a_small_disk_needs_no_more_room_than_it_can_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=60 << 20, total=64 << 20))
    assert len(opened(Numbered(5))) == 5
