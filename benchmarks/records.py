"""Results of commands that may be stopped and continued: one JSON object on each line of a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
