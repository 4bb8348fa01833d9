"""Tables of images with labels and other columns: CSV with a header, or JSON lines.

The separator of a CSV table is a comma, a semicolon or a tab, whichever is the most frequent in its header.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

from convae.core.errors import DataError
from convae.core.files import read_bytes

PATHS = ("path", "file", "file_name", "filename", "image")
"""Names of the column of paths, in order of preference."""
_LARGEST = 1 << 30
SEPARATORS = ",;\t"


def read_manifest(path: Path) -> list[dict[str, str]]:
    """The rows of a table with all values as strings; a missing value is empty.

    Raises:
        DataError: missing, not such a table, without rows, with two columns of one name, or with a row that is shorter
            or longer than the header.
    """
    try:
        text = read_bytes(path, _LARGEST).decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text file in UTF-8: save it as CSV in UTF-8") from error
    rows = _objects(text, path) if path.suffix.lower() == ".jsonl" else _table(text, path)
    if not rows:
        raise DataError(f"{path}: lists no images")
    return rows


def _table(text: str, path: Path) -> list[dict[str, str]]:
    header = text.lstrip().splitlines()[0] if text.strip() else ""
    separator = max(SEPARATORS, key=header.count)
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True, delimiter=separator)
        rows = list(reader)
    except csv.Error as error:
        raise DataError(f"{path}: not a CSV table ({error})") from error
    name, count = Counter(reader.fieldnames or [""]).most_common(1)[0]
    if count > 1:
        raise DataError(f"{path}: has {count} columns named '{name}'")
    for number, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise DataError(f"{path} line {number}: the number of values differs from the header")
    return rows


def _objects(text: str, path: Path) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_without_duplicates)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path} line {number}: not JSON ({error})") from error
        if not isinstance(row, dict):
            raise DataError(f"{path} line {number}: must be a JSON object, got {type(row).__name__}")
        rows.append({key: _text(value) for key, value in row.items()})
    keys = list(dict.fromkeys(key for row in rows for key in row))
    return [{key: row.get(key, "") for key in keys} for row in rows]


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of some pairs.

    Raises:
        ValueError: two have the same key.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        key = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key '{key}' is there twice")
    return found


def _text(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)
