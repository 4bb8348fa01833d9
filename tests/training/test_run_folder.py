"""A run folder that somebody else made: nothing is written through what leads out of it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from training.runs import RECIPE

from convae.core.errors import OutputError
from convae.training import resume, train
from convae.training.run_folder import FILES, FOLDERS

SHORT = {**RECIPE, "training": {**RECIPE["training"], "epochs": None, "steps": 2, "checkpoint_every": 1}}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(SHORT, out=tmp_path_factory.mktemp("runs") / "run").path


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("name", [*FILES, *FOLDERS, "checkpoints/link", "pictures/curves.png", "model/config.json"])
def test_links_in_a_run_are_refused_before_anything_is_written(name: str, finished: Path, tmp_path: Path) -> None:
    victim, own = tmp_path / "victim", tmp_path / "run"
    shutil.copytree(finished, own)
    path = own / name
    if path.is_dir():
        path.rename(victim)
    elif path.exists():
        path.parent.mkdir(exist_ok=True)
        path.rename(victim)
    else:
        victim.write_text("dear")
    path.symlink_to(victim)
    before = files(tmp_path)
    with pytest.raises(OutputError, match=f"{path.name}: is a link"):
        resume(own)
    assert files(tmp_path) == before
    assert path.is_symlink()


def test_a_pipe_in_a_run_is_refused(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run/timings.jsonl").unlink()
    os.mkfifo(tmp_path / "run/timings.jsonl")
    with pytest.raises(OutputError, match=r"timings\.jsonl: is a pipe"):
        resume(tmp_path / "run")


def test_the_lock_of_an_empty_folder_may_be_no_link_either(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("dear")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(OutputError, match=r"\.lock: is a link"):
        train(SHORT, out=tmp_path / "run")
    assert (tmp_path / "victim").read_text() == "dear"


def test_the_run_itself_may_be_a_link(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "far")
    (tmp_path / "run").symlink_to("far")
    assert not resume(tmp_path / "run").stopped
    assert (tmp_path / "run").is_symlink()
