from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from command import run
from filelock import FileLock

from convae.data import DataConfig, open_split
from convae.data.store.cache import list_cache

OLD = 40 * 86400


@pytest.fixture
def filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photos: Path) -> Path:
    """A cache with two stores, one of them not used for long, one that was broken off, and a download."""
    cache = tmp_path / "cache"
    monkeypatch.setenv("CONVAE_CACHE", str(cache))
    np.save(tmp_path / "old.npy", np.zeros((7, 4, 4), np.uint8))
    for source in (tmp_path / "old.npy", photos):
        open_split(DataConfig(source=source), "all")
    for index in cache.glob("stores/*/index.json"):
        if '"count": 7' in index.read_text():
            os.utime(index, (time.time() - OLD,) * 2)
    (cache / "data" / "mnist").mkdir(parents=True)
    (cache / "data" / "mnist" / "file.gz").write_bytes(bytes(3_000_000))
    (cache / "stores" / ".0123.partial").mkdir()
    return cache


def test_what_the_cache_holds_is_listed(filled: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("cache")
    out = capsys.readouterr().out
    for fact in ("arrays old.npy", f"folder {photos.name}", "1×4×4 uint8", "1×10×12 uint8", "40 days ago", "today",
                 "mnist (downloaded)", "3.0", "not complete", "4 in all", str(filled)):  # fmt: skip
        assert fact in out, fact
    run("cache", "--older-than", 30)
    out = capsys.readouterr().out
    assert "old.npy" in out
    assert photos.name not in out


@pytest.mark.usefixtures("filled")
def test_use_makes_a_store_young(tmp_path: Path) -> None:
    open_split(DataConfig(source=tmp_path / "old.npy"), "all")
    assert max(each.days for each in list_cache()) < 1


@pytest.mark.usefixtures("filled")
def test_decoded_images_are_cleared_and_downloads_by_name_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("cache", "--clear", "--older-than", 30)
    assert "arrays old.npy" not in {each.source for each in list_cache()}
    assert len(list_cache()) == 3
    run("cache", "--clear")
    assert [each.source for each in list_cache()] == ["mnist"]
    run("cache", "mnist", "--clear")
    assert list_cache() == []
    assert "3.0 MB" in capsys.readouterr().out
    assert len(open_split(DataConfig(source=tmp_path / "old.npy"), "all")) == 7


@pytest.mark.usefixtures("filled")
def test_one_is_cleared_by_its_name_or_source(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (name,) = [each.name for each in list_cache() if each.source == "arrays old.npy"]
    run("cache", name, "--clear")
    run("cache", f"folder {photos.name}", "--clear")
    assert {each.source for each in list_cache()} == {"", "mnist"}
    run("cache", "nothing-like-that", "--clear", code=2)
    assert "mnist" in capsys.readouterr().err


def test_what_another_process_writes_stays(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with FileLock(filled / "stores" / "0123.lock"):
        run("cache", "--clear", code=2)
    assert "0123" in capsys.readouterr().err
    assert {each.source for each in list_cache()} == {"", "mnist"}


def test_an_empty_cache_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVAE_CACHE", str(tmp_path / "none"))
    run("cache")
    run("cache", "--clear")
    assert not (tmp_path / "none").exists()
