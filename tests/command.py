"""Runs the command line inside the test's own process, and reads what it wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from convae.cli import main
from convae.core.file_sets import LIST


def run(*arguments: object, code: int = 0) -> None:
    """Runs `convae` with these arguments, which has to end with this exit code."""
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    assert caught.value.code == code


def read_files(folder: Path) -> dict[str, bytes]:
    """The files of a folder by their paths, without the list of a file set."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != LIST)
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}
