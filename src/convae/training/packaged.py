"""The recipes that are installed with convae."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parents[1] / "recipes"


def packaged_recipes() -> dict[str, Path]:
    """The YAML file of each packaged recipe, by its name."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}


def recipe_summary(path: Path) -> str:
    """What a recipe trains: the first line of the comment that it begins with."""
    with path.open(encoding="utf-8") as file:
        return file.readline().removeprefix("#").strip().rstrip(".")
