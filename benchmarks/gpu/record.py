"""The measurements of a part in a JSON file, written row by row, so that a second call continues."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

Row = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """What to measure on.

    Attributes:
        device: `cuda`, or `cpu` to rehearse.
        is_small: whether the smallest networks are used, to rehearse.
        out: folder of the JSON files.
        page: file of the tables.
    """

    device: str
    is_small: bool
    out: Path
    page: Path


def machine(device: str) -> Row:
    """The facts of a machine under which measurements are comparable."""
    facts: Row = {
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "processor": f"{os.cpu_count()} cores, {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
    }
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        facts["device"] = torch.cuda.get_device_name()
        facts["memory"] = f"{properties.total_memory / 2**30:.0f} GiB"
        facts["cuda"], facts["cudnn"] = torch.version.cuda, torch.backends.cudnn.version()
    return facts


@dataclass
class Record:
    """The rows of a part, kept in `NAME.json`.

    Attributes:
        path: of the file.
        machine: facts of the machine; rows of another machine are discarded.
        rows: measurements by name.
        errors: what went wrong, by the name of the row.
        is_done: whether the part has been run to its end.
        seconds: that the part took, over all calls.
    """

    path: Path
    machine: Row
    rows: dict[str, Row] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    is_done: bool = False
    seconds: float = 0.0

    @classmethod
    def open(cls, path: Path, machine: Row) -> Record:
        """The record in a file; an empty one if there is none, or if it is of another machine."""
        with contextlib.suppress(OSError, ValueError):
            found = json.loads(path.read_text(encoding="utf-8"))
            if found.pop("machine") == machine:
                return cls(path, machine, **found)
        return cls(path, machine)

    @contextlib.contextmanager
    def row(self, name: str) -> Iterator[Row]:
        """Collects a row; it is written at the end of the block. An error is recorded, and ends the block only."""
        row: Row = {}
        began = time.monotonic()
        print(f"  {name} …", end=" ", flush=True)
        try:
            yield row
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            last = [line for line in str(error).strip().splitlines() if line] or [type(error).__name__]
            self.errors[name] = f"{type(error).__name__}: {last[-1]}"[:500]
        else:
            self.rows[name] = row
            self.errors.pop(name, None)
        self.seconds += time.monotonic() - began
        print(f"{time.monotonic() - began:.1f} s", flush=True)
        self.write()

    def missing(self, names: list[str]) -> list[str]:
        """The names without a row."""
        return [name for name in names if name not in self.rows]

    def write(self) -> None:
        """Writes the file."""
        content: Row = {"machine": self.machine, "rows": self.rows, "errors": self.errors}
        content |= {"is_done": self.is_done, "seconds": round(self.seconds, 1)}
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        partial.replace(self.path)
