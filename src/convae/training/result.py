"""What came of a training: the run folder, read as Python values."""

from __future__ import annotations

import base64
import html
from dataclasses import dataclass
from pathlib import Path

from convae.model.artifact import load, read_config
from convae.model.provenance import TrainingFacts
from convae.model.vae import VAE
from convae.training.loop.log import NOTE, Row
from convae.training.recipe.schema import Recipe
from convae.training.run_folder import RunFolder


@dataclass(frozen=True, repr=False)
class Run:
    """A training that is over, or was stopped. In a notebook it shows its best metrics and newest pictures.

    Attributes:
        path: the run folder.
        recipe: as it was run, everything written out.
        stopped: whether it ended before its last step; `resume` continues it.
        is_main: whether this is, of several processes, the one that wrote it.
        out_of_time: whether it was `training.minutes` that stopped it.
    """

    path: Path
    recipe: Recipe
    stopped: bool
    is_main: bool = True
    out_of_time: bool = False

    def __repr__(self) -> str:
        best = f", best {self.best['total']:.2f} nats" if self.best else ""
        return f"Run({str(self.path)!r}{best}{', stopped' if self.stopped else ''})"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        best = ", ".join(f"{name} {value:.2f}" for name, value in self.best.items())
        lines = [f"<p><b>{html.escape(str(self.path))}</b>{' (stopped)' if self.stopped else ''}<br>{best}</p>"]
        for ending in ("curves", "samples"):
            for path in sorted(self.pictures.glob(f"*{ending}.png"))[-1:]:
                data = base64.b64encode(path.read_bytes()).decode()
                lines.append(f'<img alt="{ending}" style="max-width: 48%" src="data:image/png;base64,{data}">')
        return "".join(lines)

    @property
    def model(self) -> VAE:
        """The best model, in evaluation mode."""
        return load(self.path)

    @property
    def last(self) -> VAE:
        """The last model, in evaluation mode."""
        return load(self.path / "last")

    @property
    def pictures(self) -> Path:
        """The folder of reconstructions, samples and curves."""
        return RunFolder(self.path).pictures

    @property
    def best_step(self) -> int | None:
        """The step after which the best model was saved; None where all models diverged."""
        return self._trained.step

    @property
    def best(self) -> dict[str, float]:
        """The validation metrics of the best model, per image; empty where no images were held out.

        Terms are without their weights, `total` is with those of the end of the stage.
        """
        return self._trained.validation

    @property
    def _trained(self) -> TrainingFacts:
        """The training that the best model records."""
        model = RunFolder(self.path).model
        found = read_config(model).provenance.training if model.exists() else None
        return found or TrainingFacts()

    @property
    def metrics(self) -> list[Row]:
        """The rows of the log that hold figures: per image, in stated units, without weights."""
        return [row for row in RunFolder(self.path).rows() if row["split"] != NOTE]

    @property
    def notes(self) -> list[str]:
        """What happened that a person should know of."""
        return [row["note"] for row in RunFolder(self.path).rows() if row["split"] == NOTE]
