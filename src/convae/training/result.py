"""The result of a training."""

from __future__ import annotations

import base64
import html
from dataclasses import dataclass
from pathlib import Path

from convae.model.artifact import load, read_config
from convae.model.provenance import TrainingFacts
from convae.model.vae import VAE
from convae.objective.terms import TERMS
from convae.training.loop.log import NOTE, Row
from convae.training.recipe.schema import PriorRecipe, Recipe
from convae.training.run_folder import RunFolder


@dataclass(frozen=True, repr=False)
class Run:
    """The result of a training, finished or stopped. Notebooks show its best metrics and latest pictures.

    Attributes:
        path: the run folder.
        recipe: the recipe with every option.
        stopped: whether it stopped before its last step; `resume` continues it.
        is_main: whether this is the main process.
        out_of_time: whether it stopped because of `training.minutes`.
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
        """The representation in notebooks."""
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
        """Step of the best model; None if all models diverged."""
        return self._trained.step

    @property
    def best(self) -> dict[str, float]:
        """Validation metrics of the best model, per image; empty without validation data.

        Terms are unweighted; `total` has the weights at the end of the stage.
        """
        return self._trained.validation

    @property
    def total_unit(self) -> str:
        """The unit of `total`: nats, unless no term of the objective is in nats."""
        names = [*self.recipe.objective, *(name for stage in self.recipe.stages for name in stage.objective)]
        units = [TERMS.get(name).unit for name in names]
        return "nats" if not units or "nats" in units else str(units[0])

    @property
    def _trained(self) -> TrainingFacts:
        """The record of the training in the best model."""
        model = RunFolder(self.path).model
        found = read_config(model).provenance.training if model.exists() else None
        return found or TrainingFacts()

    @property
    def metrics(self) -> list[Row]:
        """The rows of metrics in the log: per image, in stated units, unweighted."""
        return [row for row in RunFolder(self.path).rows() if row["split"] != NOTE]

    @property
    def notes(self) -> list[str]:
        """The notes in the log."""
        return [row["note"] for row in RunFolder(self.path).rows() if row["split"] == NOTE]


@dataclass(frozen=True, repr=False)
class PriorRun(Run):
    """The result of fitting a prior; its models are the trained model with that prior.

    Attributes:
        recipe: the recipe of the prior with every option.
    """

    recipe: PriorRecipe  # type: ignore[assignment]  # the recipe of a prior in place of that of a model

    @property
    def total_unit(self) -> str:
        """The unit of `total`, that of the loss of the prior."""
        return self.model.prior.loss_unit

    @property
    def _trained(self) -> TrainingFacts:
        """The record of the fit in the best model."""
        model = RunFolder(self.path).model
        found = read_config(model).provenance.prior if model.exists() else None
        return found or TrainingFacts()
