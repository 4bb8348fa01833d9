from __future__ import annotations

import pytest
from command import run

from convae.training.recipe.reading import packaged_recipes


def test_every_packaged_recipe_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    run("recipes")
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert set(packaged_recipes()) <= set(listed)


def test_a_recipe_is_printed_as_it_is_to_be_changed(capsys: pytest.CaptureFixture[str]) -> None:
    run("recipes", "demo")
    assert capsys.readouterr().out == packaged_recipes()["demo"].read_text(encoding="utf-8")


def test_an_unknown_recipe_is_told_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    run("recipes", "dem", code=2)
    assert "'demo'" in capsys.readouterr().err
