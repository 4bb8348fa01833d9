"""`convae train`."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer

from convae.cli._options import with_option_groups
from convae.cli._trainings import LengthOptions, finish, overrides_of
from convae.core.errors import ConfigError
from convae.core.names import count_text
from convae.core.trust import untrusted_names

PANEL = "Start"
"""The heading under which the help lists the command."""
_LAST = 10**9
"""A step, or an epoch, after the end of every schedule."""
_SECTIONS = {"adapters", "data", "model", "objective", "training", "stages", "start"}
"""First parts of the paths of a recipe's keys."""


@dataclass(frozen=True)
class WhatOptions:
    """The data and the model."""

    panel: ClassVar = "Data and model"
    data: Annotated[str | None, typer.Option(help="A data set's name or a folder of images.")] = None
    size: Annotated[str | None, typer.Option(help="Image size: 64, or 48x64 (height, width).")] = None
    channels: Annotated[int | None, typer.Option(min=1, help="1 for gray, 3 for RGB: data.channels.")] = None
    preset: Annotated[str | None, typer.Option(help="A named architecture; see `convae presets`.")] = None
    latent: Annotated[int | None, typer.Option(help="Latent dimensions, or channels of a latent map.")] = None
    likelihood: Annotated[
        str | None, typer.Option(help="Likelihood p(x|z): bernoulli, gaussian, '{gaussian: {sigma: learned}}' …")
    ] = None
    beta: Annotated[float | None, typer.Option(min=0, help="Final weight of the KL divergence.")] = None

    def keys(self) -> dict[str, Any]:
        """Values by the path of their recipe key; `beta` depends on the recipe."""
        from convae.cli._parsing import data_source, image_size

        return {
            "data.source": None if self.data is None else data_source(self.data, "--data"),
            "data.size": None if self.size is None else image_size(self.size),
            "data.channels": self.channels,
            "model.preset": self.preset,
            "model.latent": self.latent,
            "model.likelihood": None if self.likelihood is None else data_source(self.likelihood, "--likelihood"),
        }


@dataclass(frozen=True)
class RunOptions:
    """The run folder, and what the run starts from."""

    panel: ClassVar = "Run"
    name: Annotated[str | None, typer.Option(help="Name of the run, and of its folder in runs/.")] = None
    out: Annotated[Path | None, typer.Option(help="The run folder, new or empty; otherwise a new one in runs/.")] = None
    data_dir: Annotated[Path | None, typer.Option(help="Folder that holds data sets.")] = None
    start: Annotated[
        Path | None,
        typer.Option(
            help="Start from the weights of this run (its recipe is the default), artifact, or file of another project."
        ),
    ] = None
    importer: Annotated[
        str | None,
        typer.Option("--as", help="With --start and another project's file of weights: torch-vae or image-vae."),
    ] = None
    resume: Annotated[Path | None, typer.Option(help="Continue a run that was stopped.")] = None

    def keys(self) -> dict[str, Any]:
        """Values by the path of their recipe key."""
        return {
            "name": self.name,
            "data.dir": None if self.data_dir is None else str(self.data_dir),
            "start.model": None if self.start is None else str(self.start),
            "start.importer": self.importer,
        }


@with_option_groups
def train(
    what: WhatOptions,
    length: LengthOptions,
    place: RunOptions,
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RECIPE] [key.path=value ...]",
            help="A recipe (a file, or a name of `convae recipes`), and options to change.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, print the plan and draw every schedule; do not train.")
    ] = False,
) -> int:
    """Train a model from a recipe, or from options alone.

    Every option of a recipe can be set by `key.path=value`, such as `training.ema=0.999`. `recipe.yaml` of a run lists
    all, `docs/recipe.md` explains them.

    Ctrl-C stops after the current step and saves; `--resume RUN` continues as if the run had never stopped.

    Example: `convae train --data digits`

    `convae train --data photos/ --preset resnet --size 64 --minutes 30`

    `convae train demo --name mine training.epochs=20`
    """
    from convae.cli._parsing import recipe_and_overrides

    _check_words(arguments or [])
    recipe, overrides = recipe_and_overrides(arguments or [])
    given = {**place.keys(), **what.keys(), **length.keys()}
    options = overrides_of(given)
    typed = [*options, *([] if what.beta is None else [f"--beta {what.beta:g}"]), *overrides]
    if length.epochs is not None:
        options.append("training.steps=null")  # a recipe's steps would take precedence
    resume, out = place.resume, place.out
    if resume is not None and (recipe or typed or dry_run or out is not None):
        raise ConfigError(
            "--resume takes no recipe and no other option: the run continues unchanged. To change options, start a new "
            f"run from its model: convae train --start {resume} {' '.join(typed)}".rstrip()
        )
    is_of_run = place.start is not None and recipe is None
    if place.start is not None and recipe is None:
        recipe = _recipe_of(place.start, what.data)
    if resume is None and recipe is None and what.data is None:
        raise ConfigError("give a recipe or --data; for example: convae train --data digits")
    with untrusted_names() if is_of_run else contextlib.nullcontext():
        if what.beta is not None:
            overrides.append(_weight_of_kl(recipe, options + overrides, what.beta))
        if dry_run:
            return _preview(recipe, options + overrides, out)
        _print_first_line(f"preparing {resume or recipe or what.data}")
        return _train(recipe, options + overrides, out, resume)


def _check_words(words: Sequence[str]) -> None:
    """Refuses words that are neither a recipe nor `key.path=value`, with what may have been meant.

    Raises:
        ConfigError: there is such a word.
    """
    from convae.training.recipe.reading import is_packaged

    for word in words:
        path = Path(word).expanduser()
        if "=" not in word and path.is_dir() and not is_packaged(word):
            if (path / "recipe.yaml").is_file():
                raise ConfigError(
                    f"{path}: is a run: --resume {path} continues it, --start {path} trains on from its model, and "
                    f"{path / 'recipe.yaml'} is its recipe"
                )
            raise ConfigError(f"{path}: is a folder, not a recipe: to train on its images, convae train --data {path}")
        half = "=" not in word and word.partition(".")[0] in _SECTIONS
        if not path.exists() and (half or word.startswith("=")):
            raise ConfigError(f"'{word}': a value is written key.path=value, without spaces around =")


def _weight_of_kl(recipe: str | None, overrides: Sequence[str], beta: float) -> str:
    """`--beta` as `objective.kl.weight=…`: a number, or the recipe's schedule scaled so that it ends there.

    Raises:
        ConfigError: the objective has no KL divergence, its stages have other weights, or its schedule ends at 0.
    """
    from convae.objective.schedules.base import Moment, build_schedule
    from convae.training.recipe.reading import read_recipe

    read = read_recipe(recipe or {}, overrides)
    if not math.isfinite(beta):
        raise ConfigError(f"--beta: must be a finite number, got {beta}")
    if "kl" not in read.objective:
        raise ConfigError(f"--beta: the objective has no term kl, only {', '.join(read.objective)}")
    for number, stage in enumerate(read.stages):
        if "kl" in stage.objective:
            raise ConfigError(f"--beta: stages have their own weight: set stages.{number}.objective.kl.weight instead")
    written = read.objective["kl"].get("weight", 1.0)
    if isinstance(written, int | float):
        return f"objective.kl.weight={beta}"
    last = build_schedule(written, "objective.kl.weight")(Moment(_LAST, _LAST, 1.0))
    if last == 0:
        raise ConfigError("--beta: the weight of kl ends at 0: write the schedule as objective.kl.weight=…")
    return f"objective.kl.weight={json.dumps({'product': {'of': [beta / last, written]}})}"


def _recipe_of(start: Path, data: str | None) -> str | None:
    """The recipe of the run that a model belongs to.

    Raises:
        ConfigError: it belongs to no run, and no data is named.
    """
    from convae.model.pretrained import find_pretrained, missing_model_advice

    folders = (start, start.parent) if start.is_dir() else ()
    found = [folder / "recipe.yaml" for folder in folders if (folder / "recipe.yaml").is_file()]
    if not start.exists() and find_pretrained(start) is None:
        raise ConfigError(f"--start {start}: no such folder. {missing_model_advice(start)}")
    if not found and data is None:
        raise ConfigError(f"--start {start}: belongs to no run, so it has no recipe: give --data or a recipe")
    return str(found[0]) if found else None


def _preview(recipe: str | None, overrides: list[str], out: Path | None) -> int:
    from rich.table import Table

    from convae.cli._screen import notes, results, work_bar, wrote
    from convae.core.paths import absolute_path
    from convae.pictures.save import save
    from convae.training.memory import estimate_memory
    from convae.training.recipe.plan import draw_schedules, stage_table
    from convae.training.recipe.reading import read_recipe
    from convae.training.recipe.stage_objective import stage_objective, stage_with_most_latents
    from convae.training.run_folder import RUNS
    from convae.training.vae.build import build_task

    with work_bar() as bar:
        made = build_task(read_recipe(recipe or {}, overrides), bar)
    for note in made.notes:
        notes.print(note, soft_wrap=True, style="yellow")
    rows = stage_table(made.plan)
    table = Table(title=f"the plan of {made.recipe.title}", title_justify="left")
    for heading in rows[0]:
        table.add_column(heading, justify="right" if heading == "steps" else "left")
    for row in rows:
        table.add_row(*row.values())
    results.print(table)
    size = made.batches.batch_size
    samples = stage_objective(made.plan.stages[stage_with_most_latents(made.plan)]).samples
    needed = estimate_memory(made.model.spec, made.recipe.training.checkpointing, samples).bytes(size)
    results.print(
        f"{count_text(len(made.images), 'training image')}, "
        f"{count_text(made.batches.steps_per_epoch, 'step')} of {size} in an epoch; "
        f"a step needs about {needed / (1 << 20):,.0f} MiB",
        soft_wrap=True,
    )
    place = absolute_path(out) if out is not None else RUNS / made.recipe.title
    wrote(save(draw_schedules(made.plan, f"the plan of {made.recipe.title}"), place.parent / f"{place.name}-plan.png"))
    return 0


def _print_first_line(sentence: str) -> None:
    """Prints a first line to a log before libraries are loaded and data are read."""
    from convae.core.console import has_viewer, notes

    if not has_viewer():
        notes.print(sentence, soft_wrap=True)


def _train(recipe: str | None, overrides: list[str], out: Path | None, resumed: Path | None) -> int:
    from convae.cli._screen import work_bar
    from convae.training import resume, train
    from convae.training.report import TrainingReport

    with work_bar() as bar:
        report = TrainingReport(bar)
        if resumed is not None:
            run = resume(resumed, callback=report, progress=bar)
        else:
            run = train(recipe or {}, overrides=overrides, out=out, callback=report, progress=bar)
    return finish(run)
