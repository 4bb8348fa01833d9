"""The run folder: what a run leaves behind, and where."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterator
from itertools import count, takewhile
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from convae.core.errors import ArtifactError, OutputError
from convae.core.files import is_temporary, open_regular, remove_temporary_files, truncate, write_text, writing_errors
from convae.core.trust import untrusted_names
from convae.training.recipe.reading import read_recipe
from convae.training.recipe.schema import Recipe

README = """# {title}

A run of convae. What lies where:

| file | what |
|---|---|
| `recipe.yaml` | everything this run is a function of: `convae train recipe.yaml` makes it again |
| `metrics.jsonl` | a row of figures every few steps (train) and at the end of each epoch (validation), and notes |
| `metrics.csv` | the same figures as a table |
| `timings.jsonl` | images per second of each epoch, and the share of its time that waited for data |
| `pictures/` | reconstructions and samples as training went on, and the curves |
| `model/` | the best model on the validation images: every command and `convae.load` take it, or the whole run |
| `last/` | the last model: every command and `convae.load` take it as `RUN/last` |
| `start/` | the model that training began with, where it did not begin with random weights |
| `data.npz` | digests of the images and labels that the run began with, to tell what has changed since |
| `checkpoints/` | what `convae train --resume` needs; may be deleted when training is done |
| `launch.json` | of a run of several processes: which call of torchrun began it |

{status}
"""


LOCK = ".lock"
"""What a process that trains into the folder holds."""
_BLOCK = 1 << 20
"""Bytes of a file that are looked at at once; no row of the log is longer."""
FOLDERS = ("pictures", "tensorboard", "checkpoints", "model", "last", "start")
FILES = (LOCK, "recipe.yaml", "data.npz", "launch.json", "metrics.jsonl", "metrics.csv", "timings.jsonl", "README.md")
"""What a run writes into its folder, with the folders."""


class RunFolder:
    """The files of one run.

    Args:
        path: the folder; made when the first file is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def metrics(self) -> Path:
        """One JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def data(self) -> Path:
        """Digests of the data that the run began with."""
        return self.path / "data.npz"

    @property
    def timings(self) -> Path:
        """One JSON object a line; the only file that differs between two runs of one recipe."""
        return self.path / "timings.jsonl"

    @property
    def pictures(self) -> Path:
        """Folder of PNG files."""
        return self.path / "pictures"

    @property
    def checkpoints(self) -> Path:
        """Folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        """The best model's artifact."""
        return self.path / "model"

    @property
    def last(self) -> Path:
        """The last model's artifact."""
        return self.path / "last"

    @property
    def start(self) -> Path:
        """The artifact of the model that training began with."""
        return self.path / "start"

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Inside the block, no other process trains into the folder, which is made; the lock ends with the process.

        Raises:
            OutputError: another one does, or the folder cannot be written.
        """
        self._refuse_links()
        with writing_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                lock = FileLock(self.path / LOCK).acquire(timeout=0)
            except Timeout as error:
                raise OutputError(f"{self.path}: another process is training into this folder") from error
        with lock:
            yield

    def _refuse_links(self) -> None:
        """Checks that what a run writes are files and folders: a link may lead to files that are not the run's.

        Raises:
            OutputError: one is a link, a pipe or a device, or cannot be looked at.
        """
        for path in self._own_paths():
            with writing_errors(path):
                mode = path.lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                kind = "a link" if stat.S_ISLNK(mode) else "a pipe or device"
                raise OutputError(f"{path}: is {kind}, but a run writes only its own files: remove it")

    def _own_paths(self) -> Iterator[Path]:
        """What is there of all that a run writes."""
        for path in filter(os.path.lexists, [self.path / name for name in (*FILES, *FOLDERS)]):
            yield path
            for top, folders, files in os.walk(path):
                yield from (Path(top, name) for name in (*folders, *files))

    def free(self) -> None:
        """Checks that there is nothing at the folder's place, or nothing in it.

        Raises:
            OutputError: there is, or the folder cannot be read.
        """
        with writing_errors(self.path):
            taken = self.path.exists() and not self.path.is_dir()
            if taken or (self.path.is_dir() and any(map(_counts, self.path.iterdir()))):
                raise OutputError(f"{self.path}: already exists. Choose another --out, or use --resume to continue it")

    def begin(self, recipe: str, title: str) -> None:
        """Writes the recipe into the folder, and makes what a run has in it.

        Args:
            recipe: as YAML.
            title: of the run.

        Raises:
            OutputError: the folder holds files already, or cannot be written.
        """
        self.free()
        # First: with it the folder is a run's, which `resume` goes on with, and without it a free one.
        write_text(self.path / "recipe.yaml", recipe)
        with writing_errors(self.path):
            for folder in (self.pictures, self.checkpoints):
                folder.mkdir(parents=True, exist_ok=True)
            self.metrics.touch()
            self.timings.touch()
        self.describe(title, "Training has begun.")

    def describe(self, title: str, status: str) -> None:
        """Writes the README with a sentence on how far the run is."""
        write_text(self.path / "README.md", README.format(title=title, status=status))

    def recipe(self) -> Recipe:
        """The recipe of the run.

        Raises:
            ArtifactError: this is no run folder.
            TrustError: it names code of a package that is not trusted.
        """
        path = self.path / "recipe.yaml"
        if not path.is_file():
            raise ArtifactError(f"{self.path}: no run folder, it holds no recipe.yaml")
        with untrusted_names():
            return read_recipe(path)

    def check(self) -> None:
        """Checks that the folder is still there, before files are written into it.

        Raises:
            OutputError: it was removed or moved.
        """
        if not (self.path / "recipe.yaml").is_file():
            raise OutputError(f"{self.path}: the run folder is gone: it was removed or moved during training")

    def rows(self) -> list[dict[str, Any]]:
        """The rows of the log of figures; one that was cut short when its process died is left out.

        Raises:
            ArtifactError: the log is missing or damaged.
        """
        return [row for row, _ in self.read_rows()]

    def read_rows(self, begin: int = 0) -> Iterator[tuple[dict[str, Any], int]]:
        """Each row of the log with the bytes of the log up to its end, from a byte on.

        Raises:
            ArtifactError: the log is missing or damaged.
        """
        try:
            with open_regular(self.metrics) as file:
                file.seek(begin)
                while line := file.readline(_BLOCK):
                    begin += len(line)
                    if line.endswith(b"\n"):
                        yield json.loads(line), begin
        except (OSError, ValueError, RecursionError) as error:
            raise ArtifactError(f"{self.metrics}: damaged or unreadable ({error})") from error

    def recover(self, log_bytes: int) -> None:
        """Takes back what was written after the log of figures had so many bytes, and what was left half-written."""
        for folder in (self.path, self.pictures, self.checkpoints):
            remove_temporary_files(folder)
        truncate(self.metrics, log_bytes)
        truncate(self.timings, _bytes_of_lines(self.timings))


def _bytes_of_lines(path: Path) -> int:
    """The bytes of a file up to the end of its last whole line; 0 where there is no file."""
    if not path.exists():
        return 0
    with writing_errors(path), open_regular(path) as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            begin = max(0, end - _BLOCK)
            file.seek(begin)
            if (found := file.read(end - begin).rfind(b"\n")) >= 0:
                return begin + found + 1
            end = begin
    return 0


def _counts(path: Path) -> bool:
    """Whether what lies in a folder makes it a taken one: what a run leaves that died as it began does not."""
    return path.name != LOCK and not is_temporary(path)


def free_path(parent: Path, title: str) -> Path:
    """The first of `title`, `title-2`, `title-3` … that is not there yet."""
    return next(path for path in _paths(parent, title) if not path.exists())


def taken_paths(parent: Path, title: str) -> Iterator[Path]:
    """Those before it."""
    return takewhile(Path.exists, _paths(parent, title))


def _paths(parent: Path, title: str) -> Iterator[Path]:
    return (parent / (title if number == 1 else f"{title}-{number}") for number in count(1))
