"""Two runs of the same recipe are the same bit for bit, also with several threads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from training.runs import RECIPE, content

from convae.training import train

TERM = "training.indexing_term:Looked"


@pytest.fixture
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_threads")
def test_two_runs_of_a_recipe_are_equal_with_several_threads(tmp_path: Path) -> None:
    recipe = {**RECIPE, "objective": {"reconstruction": {}, "kl": {}, TERM: {}}, "name": "same"}
    for name in ("one", "two"):
        train(recipe, out=tmp_path / name, overrides=["training.epochs=2", "training.precision=float32"])
    assert content(tmp_path / "one") == content(tmp_path / "two")
    assert not torch.are_deterministic_algorithms_enabled()
