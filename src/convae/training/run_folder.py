"""The run folder: what a run leaves behind, and where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from convae.core.errors import ArtifactError, OutputError
from convae.core.files import write_text, writing
from convae.training.recipe import Recipe, read_recipe, write_recipe

README = """# {title}

A run of convae. What lies where:

| file | what |
|---|---|
| `recipe.yaml` | everything this run is a function of: `convae train recipe.yaml` makes it again |
| `metrics.jsonl` | a row of figures every few steps (train) and at the end of each epoch (validation), and notes |
| `metrics.csv` | the same figures as a table |
| `timings.jsonl` | images per second of each epoch |
| `pictures/` | reconstructions and samples as training went on, and the curves |
| `model/` | the model that was best on the validation images: `convae.load` takes this folder or the whole run |
| `checkpoints/` | what `convae train --resume` needs; may be deleted when training is done |

{status}
"""


class RunFolder:
    """The files of one run.

    Args:
        path: the folder; made when the first file is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def metrics(self) -> Path:
        """One JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def timings(self) -> Path:
        """One JSON object a line; the only file that differs between two runs of one recipe."""
        return self.path / "timings.jsonl"

    @property
    def pictures(self) -> Path:
        """Folder of PNG files."""
        return self.path / "pictures"

    @property
    def checkpoints(self) -> Path:
        """Folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        """The best model's artifact."""
        return self.path / "model"

    def begin(self, recipe: Recipe) -> None:
        """Makes the folder and writes the recipe.

        Raises:
            OutputError: the folder holds files already, or cannot be written.
        """
        with writing(self.path):
            if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
                raise OutputError(f"{self.path}: is there already; give another --out, or --resume it")
            for folder in (self.path, self.pictures, self.checkpoints):
                folder.mkdir(parents=True, exist_ok=True)
            self.metrics.touch()
            self.timings.touch()
        write_text(self.path / "recipe.yaml", write_recipe(recipe))
        self.describe(recipe, "Training has begun.")

    def describe(self, recipe: Recipe, status: str) -> None:
        """Writes the README with a sentence on how far the run is."""
        write_text(self.path / "README.md", README.format(title=recipe.title, status=status))

    def recipe(self) -> Recipe:
        """The recipe of the run.

        Raises:
            ArtifactError: this is no run folder.
        """
        path = self.path / "recipe.yaml"
        if not path.is_file():
            raise ArtifactError(f"{self.path}: no run folder, it holds no recipe.yaml")
        return read_recipe(path)

    def rows(self) -> list[dict[str, Any]]:
        """The rows of the log of figures."""
        return [json.loads(line) for line in self.metrics.read_text(encoding="utf-8").splitlines()]


def free_path(parent: Path, title: str) -> Path:
    """The first of `title`, `title-2`, `title-3` … that is not there yet."""
    number = 1
    while (path := parent / (title if number == 1 else f"{title}-{number}")).exists():
        number += 1
    return path
