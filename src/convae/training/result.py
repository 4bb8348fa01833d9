"""The result of a training, its end on the console, and the prior that it needs for samples."""

from __future__ import annotations

import base64
import copy
import html
import math
from dataclasses import dataclass
from pathlib import Path

import torch

from convae.core import console
from convae.core.errors import ConvaeError
from convae.core.trust import trust_options
from convae.data import in_order, open_split
from convae.data.image_set import evenly_spaced
from convae.model.artifact import load, read_config
from convae.model.priors.standard_normal import StandardNormal
from convae.model.priors.uniform_codes import UniformCodes
from convae.model.provenance import TrainingFacts
from convae.model.vae import VAE
from convae.objective.objective import WEIGHT
from convae.objective.terms import TERMS
from convae.training.loop.log import NOTE, Row
from convae.training.recipe.schema import PriorRecipe, Recipe
from convae.training.report import metrics_text
from convae.training.run_folder import RunFolder

LARGEST_MIXTURE = 256
"""Latent values beyond which a Gaussian mixture has diagonal covariances only."""
_PSNR_IMAGES = 64
"""Number of validation images for the PSNR at the end of a training."""


@dataclass(frozen=True, repr=False)
class Run:
    """The result of a training, finished or stopped. Notebooks show its best metrics and latest pictures.

    Attributes:
        path: the run folder.
        recipe: the recipe with every option.
        stopped: whether it stopped before its last step; `resume` continues it.
        is_main: whether this is the main process.
        out_of_time: whether it stopped because of `training.minutes`.
        made_of: the model that was passed, if it was made of modules; `model` and `last` are copies of it.
    """

    path: Path
    recipe: Recipe
    stopped: bool
    is_main: bool = True
    out_of_time: bool = False
    made_of: VAE | None = None

    def __repr__(self) -> str:
        best = f", best {self.best['total']:.2f} nats" if self.best else ""
        return f"Run({str(self.path)!r}{best}{', stopped' if self.stopped else ''})"

    def __fspath__(self) -> str:
        """The run folder, so that a run can be passed where a path is."""
        return str(self.path)

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
        return load(self.path, model=copy.deepcopy(self.made_of))

    @property
    def last(self) -> VAE:
        """The last model, in evaluation mode."""
        return load(self.path / "last", model=copy.deepcopy(self.made_of))

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


def missing_prior(model: VAE) -> tuple[str, str] | None:
    """The prior to fit with `convae prior`, and why; None where samples of the model's own prior are good.

    Codes are drawn uniformly without it. Latents that no term of the objective held to N(0, I) are distributed
    otherwise.
    """
    if isinstance(model.prior, UniformCodes):
        return "transformer", "codes are drawn uniformly, so that samples have no structure"
    if not isinstance(model.prior, StandardNormal) or _is_regularized(model):
        return None
    name = "gmm" if math.prod(model.prior.latent_shape) <= LARGEST_MIXTURE else "flow-matching"
    return name, "no term of the training held the latents to N(0, I), from which they are drawn"


def _is_regularized(model: VAE) -> bool:
    """Whether the objective had a term that holds the posterior to the prior; unknown of a Gaussian one: yes."""
    trained = model.provenance.training
    if trained is None:
        return model.bottleneck.has_density
    terms = trained.objective if trained.encoder_objective is None else trained.encoder_objective
    if not terms:
        return model.bottleneck.has_density
    return any(_regularizes(name) for name, options in terms.items() if options.get(WEIGHT, 1) != 0)


def _regularizes(term: str) -> bool:
    """Whether a term holds the posterior to the prior; of one that is not installed, it is assumed."""
    try:
        return bool(TERMS.get(term).regularizes_posterior)
    except ConvaeError:
        return True


def report_end(run: Run) -> None:
    """Prints the metrics of the best model, the paths of the results, and a command to try."""
    lines = [f"best      {_best(run)}"]
    if run.best_step is not None and run.best and not isinstance(run, PriorRun):
        lines.append(f"psnr      {_validation_psnr(run)}")
    lines += [
        f"teacher   PSNR to its reconstructions {row['psnr_to_teacher']:.2f} dB"
        for row in run.metrics
        if row["step"] == run.best_step and "psnr_to_teacher" in row
    ][-1:]
    if any(run.pictures.glob("*.png")):
        lines.append(f"pictures  {run.pictures}")
    if (run.path / "model").is_dir():
        lines += [
            f"model     {run.path / 'model'}",
            f"try       convae sample {run.path} --out samples{trust_options()}",
        ]
        if (missing := missing_prior(run.model)) is not None:
            name, reason = missing
            lines.append(f"prior     convae prior {run.path} {name}{trust_options()}, for samples: {reason}")
    for line in lines:
        console.notes.print(line, soft_wrap=True)


def _best(run: Run) -> str:
    """The epoch and the validation metrics of the best model."""
    if run.best_step is None:
        return "no model: no validation was finite"
    rows = [row for row in run.metrics if row["step"] == run.best_step]
    epoch = f"epoch {math.ceil(rows[-1]['epoch']):,}, " if rows else ""
    metrics = f": {metrics_text(run.best, run.total_unit)} per validation image" if "total" in run.best else ""
    return f"{epoch}step {run.best_step:,}{metrics}"


def _validation_psnr(run: Run) -> str:
    """The mean PSNR of the best model's reconstructions of a few validation images; the peak is 1."""
    model, split = run.model, open_split(run.recipe.data, "validation")
    device = next(model.parameters()).device
    chosen = evenly_spaced(len(split), _PSNR_IMAGES)
    (batch,) = in_order(split, len(chosen), device, chosen)
    with torch.no_grad():
        decoded = model.decode(model.encode(batch.images, batch.labels).mean, batch.labels).mean
    weights = torch.ones_like(decoded) if batch.weights is None else batch.weights.expand_as(decoded)
    squares = (batch.images - decoded).square() * weights
    errors = (squares.flatten(1).sum(1) / weights.flatten(1).sum(1)).clamp_min(1e-10)
    return f"{float((-10 * errors.log10()).mean()):.2f} dB, of the reconstructions of {len(chosen)} validation images"
