"""`convae prior`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from convae.cli._options import with_option_groups
from convae.cli._trainings import LengthOptions, PlaceOptions, finish, overrides_of
from convae.core.errors import ConfigError

PANEL = "Use"
"""The heading under which the help lists the command."""


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

    Ctrl-C stops after the current step and saves; `convae train --resume RUN` continues as if it had never stopped.

    Example: `convae prior runs/mnist gmm`

    `convae prior runs/fashion-fsq transformer prior.transformer.layers=4 --epochs 20`

    `convae sample runs/fashion-fsq-transformer --label sandal --out pictures`
    """
    from convae.cli._screen import work_bar
    from convae.training import fit_prior
    from convae.training.report import TrainingReport

    words = [word for word in arguments or [] if "=" not in word or word.startswith("{")]
    overrides = [word for word in arguments or [] if word not in words]
    model, name = _model_and_prior(words)
    overrides = [*overrides_of({**place.keys(), **length.keys()}), *overrides]
    with work_bar() as bar:
        run = fit_prior(model, name, overrides=overrides, out=place.out, callback=TrainingReport(bar), progress=bar)
    return finish(run)


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
