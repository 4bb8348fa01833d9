"""`convae train`."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from convae.core.errors import ConfigError
from convae.core.trust import untrusted_names

PANEL = "Start"
"""Under which heading the help lists the command."""
_LAST = 10**9
"""A step, or an epoch, after the end of every schedule."""
_SECTIONS = {"data", "model", "objective", "training", "stages", "start"}
"""With what the paths of keys begin."""
_WHAT = "What to train"
_LENGTH = "How long and how"
_WHERE = "Where and from what"


def train(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RECIPE] [key.path=value ...]",
            help="A recipe (a file, or a name of `convae recipes`), and values that replace the recipe's.",
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="A data set's name or a folder of images.", rich_help_panel=_WHAT)
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="Size of the images: 64, or 48x64 (height, width).", rich_help_panel=_WHAT)
    ] = None,
    channels: Annotated[
        int | None, typer.Option(min=1, help="1 for grey, 3 for RGB: data.channels.", rich_help_panel=_WHAT)
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="A named architecture; see `convae presets`.", rich_help_panel=_WHAT)
    ] = None,
    latent: Annotated[
        int | None, typer.Option(help="Latent values, or channels of a latent map.", rich_help_panel=_WHAT)
    ] = None,
    likelihood: Annotated[
        str | None,
        typer.Option(
            help="What the decoder's values mean: bernoulli, gaussian, '{gaussian: {sigma: learned}}' …",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    beta: Annotated[
        float | None,
        typer.Option(min=0, help="Weight of the KL divergence; a schedule keeps its shape.", rich_help_panel=_WHAT),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes through the training images.", rich_help_panel=_LENGTH)
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps, instead of epochs.", rich_help_panel=_LENGTH)] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Stop after so many minutes at the latest.", rich_help_panel=_LENGTH)
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images in a step.", rich_help_panel=_LENGTH)] = None,
    lr: Annotated[float | None, typer.Option(help="Largest learning rate.", rich_help_panel=_LENGTH)] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of weights, order and noise.", rich_help_panel=_LENGTH)] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps.", rich_help_panel=_LENGTH)] = None,
    name: Annotated[
        str | None, typer.Option(help="What the run is called, and its folder in runs/.", rich_help_panel=_WHERE)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The run folder, new or empty; otherwise a new one in runs/.", rich_help_panel=_WHERE),
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Where data sets lie on this machine.", rich_help_panel=_WHERE)
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            help="Train on from the weights of this run or saved model, in a new run; without a recipe, by that run's.",
            rich_help_panel=_WHERE,
        ),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Continue a run that was stopped.", rich_help_panel=_WHERE)
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Check everything, print the plan and draw every schedule; train nothing."),
    ] = False,
) -> int:
    """Train a model by a recipe, or by options alone.

    Every option of a recipe can be given as `key.path=value`, such as `training.ema=0.999`. All keys: `docs/recipe.md`,
    or `recipe.yaml` of any run.

    Ctrl-C stops after the running step and saves; `--resume RUN` continues as if the run had never stopped.

    Example: `convae train --data digits`

    `convae train --data photos/ --preset resnet --size 64 --minutes 30`

    `convae train demo --name mine training.epochs=20`
    """
    from convae.cli._models import recipe_and_overrides, source_of

    if epochs is not None and steps is not None:
        raise ConfigError("--epochs and --steps both say how long to train: give one of them")
    _check_words(arguments or [])
    recipe, overrides = recipe_and_overrides(arguments or [])
    given: dict[str, Any] = {
        "name": name,
        "data.source": source_of(data, "--data") if data is not None else None,
        "data.size": None if size is None else _size(size),
        "data.channels": channels,
        "data.dir": str(data_dir) if data_dir is not None else None,
        "start.model": str(start) if start is not None else None,
        "model.preset": preset,
        "model.latent": latent,
        "model.likelihood": source_of(likelihood, "--likelihood") if likelihood is not None else None,
        "training.epochs": epochs,
        "training.steps": steps,
        "training.minutes": minutes,
        "training.batch_size": batch_size,
        "training.optimizer.lr": lr,
        "training.seed": seed,
        "training.device": device,
    }
    options = [f"{key}={json.dumps(value)}" for key, value in given.items() if value is not None]
    if epochs is not None:
        options.append("training.steps=null")  # those of a recipe would count more
    typed = [*options, *([] if beta is None else [f"--beta {beta:g}"]), *overrides]
    if resume is not None and (recipe or typed or dry_run or out is not None):
        raise ConfigError(
            "--resume continues a run as it was: give no recipe and no other option with it. With other options, train "
            f"on in a new run: convae train --start {resume} {' '.join(typed)}".rstrip()
        )
    is_of_run = start is not None and recipe is None
    if start is not None and recipe is None:
        recipe = _recipe_of(start, data)
    if resume is None and recipe is None and data is None:
        raise ConfigError("give a recipe or --data; for example: convae train --data digits")
    with untrusted_names() if is_of_run else contextlib.nullcontext():
        if beta is not None:
            overrides.append(_weight_of_kl(recipe, options + overrides, beta))
        if dry_run:
            return _preview(recipe, options + overrides, out)
        _say_at_once(f"preparing {resume or recipe or data}")
        return _train(recipe, options + overrides, out, resume)


def _check_words(words: Sequence[str]) -> None:
    """Refuses words that are neither a recipe nor `key.path=value`, with what may have been meant.

    Raises:
        ConfigError: there is such a word.
    """
    for word in words:
        path = Path(word).expanduser()
        if "=" not in word and path.is_dir():
            if (path / "recipe.yaml").is_file():
                raise ConfigError(
                    f"{path}: is a run: --resume {path} continues it, --start {path} trains on from its model, and "
                    f"{path / 'recipe.yaml'} is its recipe"
                )
            raise ConfigError(f"{path}: is a folder, not a recipe: to train on its images, convae train --data {path}")
        half = "=" not in word and word.partition(".")[0] in _SECTIONS
        if not path.exists() and (half or word.startswith("=")):
            raise ConfigError(f"'{word}': a value is written key.path=value, without spaces around =")


def _size(text: str) -> list[int] | int:
    """A size as a person writes it: `64`, or one number for each axis, such as `48x64`."""
    numbers = re.split(r"[x×,]", text.strip("[]() ").lower().replace(" ", ""))
    if not all(number.isascii() and number.isdecimal() for number in numbers):
        raise ConfigError(f"--size: needs a number such as 64, or one for each axis such as 48x64, not '{text}'")
    return int(numbers[0]) if len(numbers) == 1 else [int(number) for number in numbers]


def _weight_of_kl(recipe: str | None, overrides: Sequence[str], beta: float) -> str:
    """`--beta` as `objective.kl.weight=…`: a number, or the recipe's schedule scaled so that it ends there.

    Raises:
        ConfigError: the objective has no KL divergence, its stages have other weights, or its schedule ends at 0.
    """
    from convae.objective.schedules.base import Moment, build_schedule
    from convae.training.recipe.reading import read_recipe

    read = read_recipe(recipe or {}, overrides)
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
    """The recipe of the run that a model is of, to train it on by.

    Raises:
        ConfigError: it is a saved model of no run, and there are no data to train it on.
    """
    found = [folder / "recipe.yaml" for folder in (start, start.parent) if (folder / "recipe.yaml").is_file()]
    if not found and data is None:
        raise ConfigError(f"--start {start}: is no run, whose data and recipe could be used: give --data or a recipe")
    return str(found[0]) if found else None


def _preview(recipe: str | None, overrides: list[str], out: Path | None) -> int:
    from rich.table import Table

    from convae.cli._screen import notes, results, work_bar, wrote
    from convae.core.paths import absolute_path
    from convae.pictures.save import save
    from convae.training.memory.estimate import estimate_memory
    from convae.training.recipe.preview import draw, lines
    from convae.training.recipe.reading import read_recipe
    from convae.training.run import RUNS
    from convae.training.vae.experiment import build_experiment

    with work_bar() as bar:
        made = build_experiment(read_recipe(recipe or {}, overrides), bar)
    for note in (*made.batches.split.notes, *made.notes):
        notes.print(note, soft_wrap=True, style="yellow")
    rows = lines(made.plan)
    table = Table(title=f"the plan of {made.recipe.title}", title_justify="left")
    for heading in rows[0]:
        table.add_column(heading, justify="right" if heading == "steps" else "left")
    for row in rows:
        table.add_row(*row.values())
    results.print(table)
    size = made.batches.batch_size
    needed = estimate_memory(made.model.spec, made.recipe.training.checkpointing).bytes(size)
    results.print(
        f"{len(made.batches.split):,} training images, {made.batches.steps_per_epoch:,} steps of {size} in an epoch; "
        f"a step needs about {needed / (1 << 20):,.0f} MiB",
        soft_wrap=True,
    )
    place = absolute_path(out) if out is not None else RUNS / made.recipe.title
    wrote(save(draw(made.plan, f"the plan of {made.recipe.title}"), place.parent / f"{place.name}-plan.png"))
    return 0


def _say_at_once(sentence: str) -> None:
    """Prints a first line into a log, before libraries are loaded and data are read."""
    from convae.core.console import has_viewer, notes

    if not has_viewer():
        notes.print(sentence, soft_wrap=True)


def _train(recipe: str | None, overrides: list[str], out: Path | None, resumed: Path | None) -> int:
    from convae.cli._screen import notes, work_bar, wrote
    from convae.training import resume, train
    from convae.training.report import TrainingReport, report_end

    with work_bar() as bar:
        report = TrainingReport(bar)
        if resumed is not None:
            run = resume(resumed, callback=report, progress=bar)
        else:
            run = train(recipe or {}, overrides=overrides, out=out, callback=report, progress=bar)
    if not run.is_main:
        return 130 if run.stopped and not run.out_of_time else 0
    if run.stopped:
        reason = "time is up" if run.out_of_time else "stopped and saved"
        notes.print(f"{reason}; continue with: convae train --resume {run.path}", soft_wrap=True)
        if not run.out_of_time:
            return 130
    report_end(run)
    wrote(run.path)
    return 0
