"""The run folder and its files."""

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
from convae.core.files import is_temporary, open_regular, truncate, write_text, writing_errors
from convae.core.folders import remove_temporary_files
from convae.core.trust import untrusted_names
from convae.training.recipe.reading import read_recipe
from convae.training.recipe.schema import Recipe

RUNS = Path("runs")
"""Default folder of runs."""
README = """# {title}

A training run of convae.

| file | content |
|---|---|
| `recipe.yaml` | every option; `convae train recipe.yaml` repeats the run, unless data or model were objects |
| `metrics.jsonl` | training metrics every few steps, validation metrics of each epoch, and notes |
| `metrics.csv` | the metrics as a table |
| `timings.jsonl` | images per second of each epoch, and the fraction of the time spent waiting for data |
| `pictures/` | reconstructions and samples during training, and the curves |
| `model/` | the best model on the validation images; commands and `convae.load` also accept the run folder |
| `last/` | the last model, for commands and `convae.load` as `RUN/last` |
| `start/` | the initial model, unless training started from random weights |
| `data.npz` | digests of images and labels at the start, to detect changes of the data |
| `checkpoints/` | for `convae train --resume`; may be deleted after training |
| `launch.json` | the call of torchrun that started the run |

{status}
"""


LOCK = ".lock"
"""The lock of the process that trains into the folder."""
_BLOCK = 1 << 20
"""Block size for reading; longer than any row of the log."""
LOGGERS_FOLDER = "loggers"
"""Folder with one folder for each logger."""
FOLDERS = ("pictures", LOGGERS_FOLDER, "checkpoints", "model", "last", "start")
FILES = (LOCK, "recipe.yaml", "data.npz", "launch.json", "metrics.jsonl", "metrics.csv", "timings.jsonl", "README.md")
"""Files and folders of a run."""


class RunFolder:
    """The files of one run.

    Args:
        path: the folder; created with the first file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def metrics(self) -> Path:
        """The log of metrics, JSON lines."""
        return self.path / "metrics.jsonl"

    @property
    def data(self) -> Path:
        """Digests of the data at the start of the run."""
        return self.path / "data.npz"

    @property
    def timings(self) -> Path:
        """Timings, JSON lines; the only file that differs between two runs of a recipe."""
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
        """Artifact of the best model."""
        return self.path / "model"

    @property
    def last(self) -> Path:
        """Artifact of the last model."""
        return self.path / "last"

    @property
    def start(self) -> Path:
        """Artifact of the initial model."""
        return self.path / "start"

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Creates and locks the folder; the lock ends with the block or the process.

        Raises:
            OutputError: another process holds the lock, or the folder cannot be written.
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
        """Checks that the files of the run are not links, which may lead to other files.

        Raises:
            OutputError: one is a link, a pipe or a device, or cannot be accessed.
        """
        for path in self._own_paths():
            with writing_errors(path):
                mode = path.lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                kind = "a link" if stat.S_ISLNK(mode) else "a pipe or device"
                raise OutputError(f"{path}: is {kind}. Remove it, since a run writes regular files only")

    def _own_paths(self) -> Iterator[Path]:
        """Existing files of the run."""
        for path in filter(os.path.lexists, [self.path / name for name in (*FILES, *FOLDERS)]):
            yield path
            for top, folders, files in os.walk(path):
                yield from (Path(top, name) for name in (*folders, *files))

    def free(self) -> None:
        """Checks that the folder does not exist or is empty.

        Raises:
            OutputError: it has files, or cannot be read.
        """
        with writing_errors(self.path):
            taken = self.path.exists() and not self.path.is_dir()
            if taken or (self.path.is_dir() and any(map(_counts, self.path.iterdir()))):
                raise OutputError(f"{self.path}: already exists. Choose another --out, or use --resume to continue it")

    def begin(self, recipe: str, title: str) -> None:
        """Creates the files of a new run.

        Args:
            recipe: recipe as YAML.
            title: title of the run.

        Raises:
            OutputError: the folder has files, or cannot be written.
        """
        self.free()
        # First, because it makes the folder a run, which `resume` continues.
        write_text(self.path / "recipe.yaml", recipe)
        with writing_errors(self.path):
            for folder in (self.pictures, self.checkpoints):
                folder.mkdir(parents=True, exist_ok=True)
            self.metrics.touch()
            self.timings.touch()
        self.describe(title, "Training has begun.")

    def describe(self, title: str, status: str) -> None:
        """Writes the README with the status of the run."""
        write_text(self.path / "README.md", README.format(title=title, status=status))

    def recipe(self) -> Recipe:
        """The recipe of the run.

        Raises:
            ArtifactError: not a run folder.
            TrustError: it names code of a package that is not trusted.
        """
        path = self.path / "recipe.yaml"
        if not path.is_file():
            raise ArtifactError(f"{self.path}: not a run folder: no recipe.yaml")
        with untrusted_names():
            return read_recipe(path)

    def check(self) -> None:
        """Checks that the folder still exists, before files are written into it.

        Raises:
            OutputError: it was removed or moved.
        """
        if not (self.path / "recipe.yaml").is_file():
            raise OutputError(f"{self.path}: the run folder was removed or moved during training")

    def rows(self) -> list[dict[str, Any]]:
        """The rows of the log, without a partial last row of a killed process.

        Raises:
            ArtifactError: the log is missing or damaged.
        """
        return [row for row, _ in self.read_rows()]

    def read_rows(self, begin: int = 0) -> Iterator[tuple[dict[str, Any], int]]:
        """Iterates over rows of the log from a byte offset, with the offset of their end.

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

    def recover(self, log_bytes: int) -> str | None:
        """Truncates the log, as `truncate_log` does, and removes temporary files."""
        for folder in (self.path, self.pictures, self.checkpoints):
            remove_temporary_files(folder)
        truncate(self.timings, _bytes_of_lines(self.timings))
        return self.truncate_log(log_bytes)

    def truncate_log(self, log_bytes: int) -> str | None:
        """Truncates the log to the rows in its first bytes, or to those that can be read.

        Args:
            log_bytes: size of the log at the last checkpoint.

        Returns:
            A note if rows were lost.
        """
        kept, step = 0, 0
        with contextlib.suppress(ArtifactError):
            for row, end in self.read_rows():
                if end > log_bytes:
                    break
                kept, step = end, row["step"]
        truncate(self.metrics, kept)
        if kept == log_bytes:
            return None
        return f"{self.metrics}: missing or damaged, so that the rows after step {step} are lost"


def _bytes_of_lines(path: Path) -> int:
    """Size of a file up to the end of its last complete line; 0 without the file."""
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
    """Whether a file makes a folder non-empty; leftovers of a run that died at its start do not."""
    return path.name != LOCK and not is_temporary(path)


def free_path(parent: Path, title: str) -> Path:
    """The first of `title`, `title-2`, `title-3` … that does not exist."""
    return next(path for path in _paths(parent, title) if not path.exists())


def taken_paths(parent: Path, title: str) -> Iterator[Path]:
    """The existing paths before it."""
    return takewhile(Path.exists, _paths(parent, title))


def _paths(parent: Path, title: str) -> Iterator[Path]:
    return (parent / (title if number == 1 else f"{title}-{number}") for number in count(1))
