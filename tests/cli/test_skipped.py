"""A run says which images it could not read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convae.cli import main


def test_a_run_says_how_many_images_it_left_out_and_where_they_are_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(12):
        Image.fromarray(np.full((8, 8), 20 * number, np.uint8)).save(folder / f"{number}.png")
    for number in range(2):
        (folder / f"bad{number}.png").write_bytes(b"no image")
    options = ["--epochs", "1", "--batch-size", "4", "--latent", "2", "training.pictures_every=0"]
    with pytest.raises(SystemExit) as ended:
        main(["train", "--data", str(folder), "--out", str(tmp_path / "run"), *options])
    assert ended.value.code == 0
    said = capsys.readouterr().err
    assert "left out 2 unreadable images" in said
    assert "bad0.png: " in said
    listed = Path(said.partition("all are listed in ")[2].partition(")")[0])
    assert "bad1.png" in listed.read_text()
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    assert "| skipped | 2 |" in card
    assert "{" not in card
