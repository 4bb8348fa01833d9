"""`convae prior`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer

from convae.cli._options import LengthOptions, with_option_groups
from convae.core.errors import ConfigError

PANEL = "Use"
"""The heading under which the help lists the command."""


@dataclass(frozen=True)
class PlaceOptions:
    """The images, and the run folder."""

    panel: ClassVar = "Run"
    data: Annotated[str | None, typer.Option(help="Images instead of the training data of the model.")] = None
    data_dir: Annotated[Path | None, typer.Option(help="Folder that holds data sets.")] = None
    name: Annotated[str | None, typer.Option(help="Name of the run, and of its folder in runs/.")] = None
    out: Annotated[Path | None, typer.Option(help="The run folder, new or empty; otherwise a new one in runs/.")] = None
    resume: Annotated[Path | None, typer.Option(help="Continue a run that was stopped.")] = None

    def keys(self) -> dict[str, Any]:
        """Values by the path of their recipe key."""
        from convae.cli._parsing import data_source

        return {
            "name": self.name,
            "data.source": None if self.data is None else data_source(self.data, "--data"),
            "data.dir": None if self.data_dir is None else str(self.data_dir),
        }


@with_option_groups
def prior(
    length: LengthOptions,
    place: PlaceOptions,
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN PRIOR] [key.path=value ...]",
            help="A run or an artifact, the name of a prior, and options of the fit.",
        ),
    ] = None,
) -> int:
    """Fit a prior to a trained model, to draw better samples, or samples of a class.

    The prior is fitted to the latents of the training images; the model does not change. The new run in runs/ holds the
    model with that prior, from which `convae sample` draws.

    `gmm` and `class-gaussians` are fitted to continuous latents at once. `transformer` is trained on codes,
    `flow-matching` and `mixture` on continuous latents. Arguments of a prior are written as `prior.NAME.KEY=VALUE`.

    Ctrl-C stops after the current step and saves; `--resume RUN` continues as if the run had never stopped.

    Example: `convae prior runs/mnist gmm`

    `convae prior runs/fashion-fsq transformer prior.transformer.layers=4 --epochs 20`

    `convae sample runs/fashion-fsq-transformer --label Sandal --out pictures`
    """
    from convae.cli._screen import notes, work_bar, wrote
    from convae.core.trust import trust_options
    from convae.training import fit_prior, resume
    from convae.training.report import TrainingReport

    words = [word for word in arguments or [] if "=" not in word or word.startswith("{")]
    overrides = [word for word in arguments or [] if word not in words]
    given = {**place.keys(), **length.keys()}
    options = [f"{key}={json.dumps(value)}" for key, value in given.items() if value is not None]
    with work_bar() as bar:
        report = TrainingReport(bar)
        if place.resume is not None:
            if words or overrides or options or place.out is not None:
                raise ConfigError("--resume takes no other argument: the run continues unchanged")
            run = resume(place.resume, callback=report, progress=bar)
        else:
            model, name = _model_and_prior(words)
            run = fit_prior(model, name, overrides=[*options, *overrides], out=place.out, callback=report, progress=bar)
    if not run.is_main:
        return 130 if run.stopped and not run.out_of_time else 0
    if run.stopped:
        reason = "time is up" if run.out_of_time else "stopped and saved"
        notes.print(f"{reason}; continue with: convae prior --resume {run.path}{trust_options()}", soft_wrap=True)
        if not run.out_of_time:
            return 130
    for key, value in run.best.items():
        if key != "total":
            notes.print(f"best      {key} {value:.3f} per validation image, step {run.best_step}", soft_wrap=True)
    notes.print(f"try       convae sample {run.path} --out samples{trust_options()}", soft_wrap=True)
    wrote(run.path)
    return 0


def _model_and_prior(words: list[str]) -> tuple[str, Any]:
    """The model and the prior among the arguments.

    Raises:
        ConfigError: one of them is missing, or there are more.
    """
    from convae.cli._parsing import data_source
    from convae.model.priors import PRIORS

    if len(words) != 2:
        raise ConfigError(
            f"give a model and a prior, such as: convae prior {words[0] if words else 'RUN'} gmm. Priors: "
            f"{', '.join(PRIORS.names())}"
        )
    return words[0], data_source(words[1], "the prior")
