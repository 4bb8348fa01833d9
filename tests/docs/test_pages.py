"""The examples of the pages: recipes are read and their models built, Python runs, commands and options exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from made.commands import parameters
from made.modules import public_modules

from convae.cli import COMMANDS
from convae.core.documents import parse_yaml
from convae.describe import resolve
from convae.model.construct import construct
from convae.objective.objective import build_objective
from convae.training.recipe.reading import read_recipe

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))


def blocks(language: str) -> list[tuple[str, str]]:
    found = [(page, re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), flags=re.M | re.S)) for page in PAGES]
    return [(f"{page.stem}-{number}", text) for page, texts in found for number, text in enumerate(texts)]


def cases(language: str, without: str = "") -> list[object]:
    return [pytest.param(text, id=name) for name, text in blocks(language) if name != without]


@pytest.mark.parametrize("text", cases("yaml"))
def test_yaml_is_a_recipe_whose_model_and_objective_can_be_built(text: str) -> None:
    recipe = read_recipe(parse_yaml(text, "the page"))
    assert construct(resolve(recipe.model)).latent_shape
    assert build_objective(recipe.objective).units


@pytest.mark.parametrize("text", cases("python", without="flowers-0"))  # test_flowers.py runs it
def test_python_runs(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(text, names)
    if "arch_def" in names:
        assert construct(resolve(names["arch_def"])).input_shape  # type: ignore[arg-type]  # it is a dictionary


def test_commands_and_their_options_exist() -> None:
    recipes = (ROOT / "src" / "convae" / "recipes").glob("*.yaml")
    pages = "\n".join(page.read_text() for page in (*PAGES, ROOT / "README.md", *recipes))
    shown = re.findall(r"convae ([a-z-]+)((?: [^`\n]*)?)", pages)
    named = [(command, rest) for command, rest in shown if command in COMMANDS]
    assert {"train", "show", "evaluate", "encode", "interpolate"} <= {command for command, _ in named}
    for command, rest in named:
        known = {option for one in parameters(command) for option in (*one.opts, *one.secondary_opts)}
        assert set(re.findall(r"(?<!\S)--[a-z0-9-]+", rest)) <= known, f"convae {command}{rest}"


def test_every_extra_of_a_user_is_listed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = set(project["optional-dependencies"]) - {"bench", "browser", "dev", "docs"}
    rows = re.findall(r"^\| (`[^|]*) \|", (ROOT / "docs" / "install.md").read_text(), flags=re.M)
    assert extras <= {name for row in rows for name in re.findall(r"`([a-z-]+)`", row)}


def test_every_package_has_its_page() -> None:
    packages = {"convae", *(name.split(".")[1] for name in public_modules()[1:])}
    assert {page.stem for page in (ROOT / "docs" / "api").glob("*.md")} == packages


def test_each_guarantee_names_tests_that_exist() -> None:
    rows = re.findall(r"^\|.*\| ([^|]*) \|$", (ROOT / "docs" / "guarantees.md").read_text(), flags=re.M)
    assert len(rows) > 20
    for row in rows[1:]:
        folder = ROOT
        paths = [Path(path) for path in re.findall(r"`([^`]+)`", row)]
        assert paths, row
        for path in paths:
            folder = ROOT / path.parent if path.parent.parts else folder
            assert path.suffix == ".py"
            assert (folder / path.name).is_file(), path
