"""Memory that is said to be bounded is measured: the peak of a process at two sizes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "memory.py"
# A matrix of all pairs, 8 · 4,096² bytes, would be 128 MiB.
SIZES = {
    "aggregate": (1_000, 4_096, 60),
    "distances": (1_000, 4_096, 100),
    "neighbors": (1_000, 4_096, 80),
    "clusters": (1_000, 4_096, 60),
    "evaluate": (500, 4_096, 80),
    "bootstrap": (1_000, 50_000, 100),
    "encode_to": (4_500, 12_500, 40),
}
"""The smaller and the larger number of images, and the MiB by which the peak may grow."""


@pytest.mark.long
def test_memory_does_not_grow_with_the_square_of_the_images() -> None:
    words = [f"{what}:{small}:{large}" for what, (small, large, _) in SIZES.items()]
    done = subprocess.run([sys.executable, str(SCRIPT), *words], capture_output=True, text=True, check=True)
    grown = {what: large - small for what, (small, large) in json.loads(done.stdout).items()}
    assert grown.keys() == SIZES.keys()
    assert {what: more for what, more in grown.items() if more >= SIZES[what][2]} == {}
