"""The page on an hour with photographs: its commands run as they are written, one after the other, on small data."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convae.cli import main

PAGE = (Path(__file__).parents[2] / "docs" / "flowers.md").read_text(encoding="utf-8")
SHORT = ["training.steps=2", "training.batch_size=8", "training.precision=float32", "model.latent=4"]


@pytest.fixture
def flowers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two classes in official parts, as the page has five; commands run beside them."""
    generator = np.random.default_rng(0)
    for part, count in (("train", 40), ("test", 10)):
        for kind, tint in (("daisy", (0, 0, 99)), ("rose", (99, 0, 0))):
            (tmp_path / "flowers" / part / kind).mkdir(parents=True)
            for number in range(count):
                values = generator.integers(0, 150, (36, 36, 3)) + tint
                Image.fromarray(values.astype(np.uint8)).save(tmp_path / "flowers" / part / kind / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONVAE_CACHE", str(tmp_path / "cache"))
    return tmp_path


def commands() -> list[list[str]]:
    lines = [
        line for block in re.findall(r"^```text\n(.*?)^```", PAGE, flags=re.M | re.S) for line in block.splitlines()
    ]
    return [shlex.split(line) for line in lines if line.startswith(("convae ", "cp "))]


def test_the_hour_runs_from_the_folder_to_the_shared_model(flowers: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = set()
    for program, *words in commands():
        if program == "cp":
            shutil.copytree(words[-2], words[-1])
            continue
        with pytest.raises(SystemExit) as ended:
            main([*words, *(SHORT if words[0] == "train" else [])])
        assert ended.value.code == 0, (words, capsys.readouterr().err)
        done.add(words[0])
    assert done == {
        *("data", "train", "reconstruct", "sample", "prior", "evaluate", "table", "clusters", "scatter", "anomalies"),
        "show",
    }
    (script,) = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.M | re.S)
    exec(script, {})
    shown = capsys.readouterr().out
    assert all(f"`{path.name}`" in PAGE for path in (flowers / "flowers-model").iterdir())
    assert "daisy" in shown
    header = (flowers / "flowers.csv").read_text().partition("\n")[0].split(",")
    assert header[:7] == ["name", "split", "class", "label", "cluster", "negative_elbo_nats", "z0"]
    for column in ("name", "split", "class", "label", "cluster", "negative_elbo_nats", "z0"):
        assert f"`{column}`" in PAGE
