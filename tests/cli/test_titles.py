"""Titles of pictures name the model, the data and what is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from command import run

from convae.pictures import grid as module


@pytest.mark.parametrize(
    ("command", "function", "words"),
    [
        (["traverse", "--steps", "3"], "grid", ["tiny", "mean latent", "2% to 98%", "202 images"]),
        (["traverse", "--image", "7", "--steps", "3"], "grid", ["tiny", "image 7"]),
        (["manifold", "--steps", "3", "--axes", "0,2"], "grid", ["tiny", "z0 (across)", "z2 (up)", "2% to 98%"]),
        (["interpolate", "0", "1", "--mode", "slerp"], "grid", ["tiny", "spherical interpolation"]),
        (["translate", "0", "--label", "3", "--against", "5"], "grid", ["tiny", "to 3 from 5"]),
        (["neighbors", "0"], "grid", ["tiny", "digits", "test", "Euclidean"]),
        (["clusters", "--count", "3"], "grid", ["tiny", "3 clusters", "202 digits images (test)"]),
        (["sample", "--count", "4", "--temperature", "0.5"], "grid", ["tiny", "seed 0", "temperature 0.5"]),
        (["reconstruct", "--count", "4"], "pairs", ["tiny", "digits (test)"]),
        (["anomalies", "--count", "2"], "compare", ["tiny", "negative ELBO (nats per image)", "202 digits images"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_a_title_names_the_model_and_what_is_shown(
    command: list[str],
    function: str,
    words: list[str],
    artifact: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    titles: list[str] = []
    draw = getattr(module, function)

    def caught(*arguments: Any, title: str, **options: Any) -> Any:
        titles.append(title)
        return draw(*arguments, title=title, **options)

    monkeypatch.setattr(module, function, caught)
    run(command[0], artifact, *command[1:], "--out", tmp_path / "out")
    assert all(word in titles[0] for word in words), titles[0]
