"""Patterns that name several files: `train-{0000..0146}.tar`, `*.tar`."""

from __future__ import annotations

import glob
import re
from pathlib import Path

_NUMBERS = re.compile(r"\{(\d+)\.\.(\d+)\}")


def is_pattern(path: Path) -> bool:
    """Whether the name of a path is a pattern, and not that of a file."""
    return (glob.has_magic(path.name) or _NUMBERS.search(path.name) is not None) and not path.exists()


def expand(path: Path) -> list[Path]:
    """The files that a path names, in order: itself, without a pattern.

    Files of numbers in braces need not exist; those of wildcards do.
    """
    if not is_pattern(path):
        return [path]
    named = [path.with_name(name) for name in _numbered(path.name)]
    return [file for each in named for file in (sorted(each.parent.glob(each.name)) if is_pattern(each) else [each])]


def _numbered(name: str) -> list[str]:
    """The names with each number of the braces, with as many digits as the first."""
    found = _NUMBERS.search(name)
    if found is None:
        return [name]
    first, last = found.groups()
    numbers = [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]
    return [name[: found.start()] + number + rest for number in numbers for rest in _numbered(name[found.end() :])]
