from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convae.core.errors import OutputError
from convae.pictures.curves import curves
from convae.pictures.grid import grid
from convae.pictures.save import save

IMAGES = np.random.default_rng(0).random((6, 3, 9, 9))


@pytest.mark.parametrize("suffix", [".png", ".webp", ".PNG"])
def test_a_sheet_is_saved_without_loss_and_with_equal_bytes(suffix: str, tmp_path: Path) -> None:
    picture = grid(IMAGES, title="six")
    path = save(picture, tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(np.asarray(Image.open(path).convert("RGB")), np.asarray(picture))
    assert save(grid(IMAGES, title="six"), tmp_path / f"b{suffix}").read_bytes() == path.read_bytes()


def test_nothing_but_the_picture_is_left_behind(tmp_path: Path) -> None:
    save(grid(IMAGES), tmp_path / "a.png")
    save(grid(IMAGES[:1]), tmp_path / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_suffix_that_does_not_suit_the_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"\.png or \.webp, got '\.svg'"):
        save(grid(IMAGES), tmp_path / "a.svg")
    with pytest.raises(OutputError, match=r"\.png or \.svg, got '\.webp'"):
        save(curves({"a": {"b": ([1], [1])}}, x_label="step"), tmp_path / "a.webp")
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        save(grid(IMAGES), tmp_path / "file" / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_sheet_needs_neither_pyplot_nor_torch() -> None:
    program = (
        "import sys, numpy; from convae.pictures.grid import grid; grid(numpy.zeros((2, 1, 8, 8)), title='two');"
        "sys.exit(any(name in sys.modules for name in ('torch', 'matplotlib.figure', 'matplotlib.pyplot')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
