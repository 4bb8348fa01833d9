"""Results and runs of commands that may be stopped and continued; results are JSON objects, one a line of a file."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import convae
from convae.core.files import append


def read_results(path: Path) -> list[dict[str, Any]]:
    """The results so far, oldest first; empty without the file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def is_measured(path: Path, key: Mapping[str, Any]) -> bool:
    """Whether the file has a result with these entries."""
    return any(key.items() <= line.items() for line in read_results(path))


def add_result(path: Path, line: Mapping[str, Any]) -> Mapping[str, Any]:
    """Appends a result to the file, and returns it."""
    append(path, json.dumps(line, ensure_ascii=False) + "\n")
    return line


class Results:
    """Measurements in a file, one on each line, by name.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.rows: dict[str, dict[str, Any]] = {row["name"]: row for row in read_results(path)}

    def add(self, name: str, row: Mapping[str, Any]) -> None:
        """Adds a measurement."""
        self.rows[name] = {"name": name, **row}
        print(add_result(self._path, self.rows[name]), flush=True)


def mean_text(values: Sequence[float], digits: int) -> str:
    """Mean and, of several values, standard deviation: `1.23 ± 0.04`."""
    mean = f"{statistics.fmean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def finish_run(path: Path, begin: Callable[[], object]) -> None:
    """Trains a run; continues it if it was stopped. A folder with a model and no recipe is left as it is.

    A run has `model` and `last` from its first epoch, so that these do not tell whether it is complete.

    Args:
        path: the folder of the run.
        begin: trains it from its first step.
    """
    if (path / "recipe.yaml").exists():
        convae.resume(path, quiet=True)
    elif not (path / "model").exists():
        begin()
