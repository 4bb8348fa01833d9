"""A few of the trials that `benchmarks/durability.py` makes by the thousand."""

from __future__ import annotations

import errno
import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from training.runs import EVERYTHING, RECIPE, StopAt, content
from trials import Damage, Faults, check, fault_trial

from convae.core.errors import ArtifactError, ConvaeError, OutputError
from convae.core.files import write_bytes
from convae.core.folders import new_folder
from convae.training import resume, train

SHORT = {**RECIPE, "training": {**RECIPE["training"], "epochs": None, "steps": 3, "checkpoint_every": 2}}


def test_a_fault_at_any_call_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        write_bytes(folder / "file", b"new")
        with new_folder(folder / "place") as place:
            write_bytes(place / "one", b"new")
            write_bytes(place / "two", b"new")

    counted = Faults(tmp_path)
    (tmp_path / "count" / "place").mkdir(parents=True)
    with counted.injected():
        write(tmp_path / "count")
    assert counted.calls > 15
    for at in range(counted.calls):
        for lasting in (False, True):
            folder = tmp_path / f"{at} {lasting}"
            (folder / "place").mkdir(parents=True)
            for path in (folder / "file", folder / "place" / "one", folder / "place" / "two"):
                path.write_bytes(b"old")
            try:
                with Faults(folder, at, errno.ENOSPC, lasting).injected():
                    write(folder)
            except OutputError as error:
                assert os.strerror(errno.ENOSPC) in str(error)
            assert (folder / "file").read_bytes() in (b"old", b"new")
            place = folder / "place" if (folder / "place").exists() else folder / ".place.old"
            assert {path.read_bytes() for path in place.iterdir()} in ({b"old"}, {b"new"})
            assert len(list(place.iterdir())) == 2


def test_a_run_bears_faults(tmp_path: Path) -> None:
    counted = Faults(tmp_path)
    with counted.injected():
        train(SHORT, out=tmp_path / "unbroken")
    unbroken = content(tmp_path / "unbroken")
    said = [
        fault_trial(
            SHORT,
            tmp_path / f"run {at}",
            unbroken,
            Faults(tmp_path / f"run {at}", at, errno.ENOSPC if lasting else errno.EIO, lasting),
        )
        for lasting in (False, True)
        for at in range(3 + 4 * lasting, counted.calls, counted.calls // 4)
    ]
    assert sum(sentence is not None for sentence in said) > len(said) // 2


@pytest.mark.parametrize("seed", range(2))
def test_what_is_damaged_is_refused_or_is_what_it_was(tmp_path: Path, seed: int) -> None:
    train({**EVERYTHING, "stages": [{"steps": 1}]}, out=tmp_path / "run")
    damage = Damage(tmp_path / "run", seed)
    for _ in range(100):
        damage.trial()
    assert sum(count for name, count in damage.counts.items() if name.endswith("refused")) > 75


def test_a_checkpoint_that_cannot_be_read_now_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, *_: object) -> None:
        raise OSError(code, os.strerror(code), str(path))

    train(EVERYTHING, out=tmp_path / "run", callback=StopAt(3))
    before = content(tmp_path / "run")
    for code, name in itertools.product((errno.EIO, errno.EMFILE, errno.ESTALE), ("open_regular", "read_bytes")):
        with monkeypatch.context() as patch:
            patch.setattr(f"convae.core.checked_files.{name}", fail)
            with pytest.raises(ConvaeError, match=os.strerror(code)) as caught:
                resume(tmp_path / "run")
        assert not isinstance(caught.value, ArtifactError)
        assert content(tmp_path / "run") == before
    assert not resume(tmp_path / "run").stopped


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    train(EVERYTHING, out=tmp_path / "unbroken")
    train(EVERYTHING, out=tmp_path / "run", callback=StopAt(1))
    code = f"from convae.training import resume; resume({str(tmp_path / 'run')!r})"
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        while process.poll() is None and len(list((tmp_path / "run" / "checkpoints").iterdir())) < 4:
            time.sleep(0.002)
        process.kill()
    check(tmp_path / "run")
    resume(tmp_path / "run")
    assert content(tmp_path / "run") == content(tmp_path / "unbroken")
