"""Says how far the curves of two runs of one recipe are apart; exits with 1 where that is more than rounding."""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROUNDING = 1e-3
"""Of a figure, relatively: float32 sums in another order, through some hundred steps."""


def main(one: Path, other: Path) -> int:
    """Compares every figure of every row."""
    ones, others = ([json.loads(line) for line in (run / "metrics.jsonl").open()] for run in (one, other))
    apart = [
        (abs(value - same[name]) / max(abs(value), 1e-3), f"{row['split']} step {row['step']} {name}")
        for row, same in zip(ones, others, strict=True)
        for name, value in row.items()
        if isinstance(value, float)
    ]
    worst, where = max(apart)
    print(f"{len(apart)} figures of {len(ones)} rows; the farthest apart by {worst:.1e} ({where})")
    return int(worst > ROUNDING)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
