"""Real 1-D data for the recipe `power-days`: 1,096 days of electrical power demand in Italy, 24 hours each.

    pip install --no-deps aeon
    python examples/real_signals.py power-days.npz
    convae train power-days

The package aeon ships them as ItalyPowerDemand of the UCR archive (E. Keogh, L. Wei, X. Xi, S. Lonardi, J. Shieh,
S. Sirowy, 2006). Each day is scaled to mean 0 and variance 1. Class 0 is October to March, class 1 April to September.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def read_series(lines: Iterable[str]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The series of a .ts file, (count, length), and their class numbers from 0."""
    rows = [line.strip() for line in lines if line.strip() and line[0] not in "#@"]
    values = np.array([row.rpartition(":")[0].split(",") for row in rows], np.float32)
    return values, np.array([int(row.rpartition(":")[2]) - 1 for row in rows])


def main(out: Path) -> None:
    """Writes the two official parts; aeon is located and not imported."""
    spec = find_spec("aeon")
    if spec is None or spec.origin is None:
        sys.exit("aeon is not installed: pip install --no-deps aeon")
    folder = Path(spec.origin).parent / "datasets" / "data" / "ItalyPowerDemand"
    arrays: dict[str, Any] = {}
    # The archive's own training part has 67 days; the larger part trains here, the smaller one tests.
    for part, name in (("train", "TEST"), ("test", "TRAIN")):
        with (folder / f"ItalyPowerDemand_{name}.ts").open(encoding="utf-8") as file:
            arrays[part], arrays[f"{part}_labels"] = read_series(file)
    np.savez(out, **arrays)
    print(f"{out}: {len(arrays['train'])} training days, {len(arrays['test'])} test days")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "power-days.npz"))
