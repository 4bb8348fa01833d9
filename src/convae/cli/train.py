"""`convae train`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from convae.core.errors import ConfigError

PANEL = "Start"
"""Under which heading the help lists the command."""


def train(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RECIPE] [key.path=value ...]", help="A recipe file, and options of it to change."),
    ] = None,
    data: Annotated[str | None, typer.Option(help="A data set's name or a folder of images.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where data sets lie on this machine.")] = None,
    preset: Annotated[str | None, typer.Option(help="A named architecture; see `convae presets`.")] = None,
    latent: Annotated[int | None, typer.Option(help="Latent values, or channels of a latent map.")] = None,
    likelihood: Annotated[str | None, typer.Option(help="bernoulli, gaussian, laplace …: p(image | latent).")] = None,
    size: Annotated[str | None, typer.Option(help="Size of the images: 64, or 48x64 (height, width).")] = None,
    channels: Annotated[int | None, typer.Option(help="1 grey, 3 RGB, 4 RGBA; otherwise the images' own.")] = None,
    beta: Annotated[float | None, typer.Option(help="Weight of the KL divergence: objective.kl.weight.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes through the training images.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps to train, in place of epochs.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Stop after so many minutes; --resume continues.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images in a step.")] = None,
    lr: Annotated[float | None, typer.Option(help="Largest learning rate.")] = None,
    name: Annotated[str | None, typer.Option(help="What the run and its model are called.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of weights, order and noise.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="The run folder, new or empty; otherwise a new one in runs/.")
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            help="Train on from the weights of this run or saved model, in a new run; without a recipe, by that run's."
        ),
    ] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with this run folder.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print the plan and draw every schedule, without training.")
    ] = False,
) -> int:
    """Train a model by a recipe, or by options alone.

    Ctrl-C stops after the running step and says how to continue; the run is then the same as one that never stopped.
    `--dry-run` writes every key out with its default; docs/recipe.md explains them.

    Example: `convae train --data photos/ --size 64 --epochs 20`
    """
    from convae.cli._models import recipe_and_overrides, source_of

    recipe, overrides = recipe_and_overrides(arguments or [])
    given: dict[str, Any] = {
        "data.source": source_of(data, "--data") if data is not None else None,
        "start.model": str(start) if start is not None else None,
        "data.dir": str(data_dir) if data_dir is not None else None,
        "name": name,
        "data.size": None if size is None else _size(size),
        "data.channels": channels,
        "model.preset": preset,
        "model.latent": latent,
        "model.likelihood": likelihood,
        "objective.kl.weight": beta,
        "training.epochs": epochs,
        "training.steps": steps,
        "training.minutes": minutes,
        "training.batch_size": batch_size,
        "training.optimizer.lr": lr,
        "training.seed": seed,
        "training.device": device,
    }
    options = [f"{key}={json.dumps(value)}" for key, value in given.items() if value is not None]
    if resume is not None and (recipe or options or overrides or dry_run or out is not None):
        raise ConfigError(
            "--resume continues a run as it was: give no recipe and no other option with it. With other options, train "
            f"on in a new run: convae train --start {resume} {' '.join(options + overrides)}".rstrip()
        )
    if start is not None and recipe is None:
        recipe = _recipe_of(start, data)
    if resume is None and recipe is None and data is None:
        raise ConfigError("give a recipe file or --data; for example: convae train --data digits")
    if dry_run:
        return _preview(recipe, options + overrides, out)
    return _train(recipe, options + overrides, out, resume)


def _size(text: str) -> list[int] | int:
    """A size as a person writes it: `64`, or one number for each axis, such as `48x64`."""
    numbers = re.split(r"[x×,]", text.strip("[]() ").lower().replace(" ", ""))
    if not all(number.isascii() and number.isdecimal() for number in numbers):
        raise ConfigError(f"--size: needs a number such as 64, or one for each axis such as 48x64, not '{text}'")
    return int(numbers[0]) if len(numbers) == 1 else [int(number) for number in numbers]


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

    from convae.cli._screen import results, work_bar, wrote
    from convae.core.paths import absolute_path
    from convae.pictures.save import save
    from convae.training.experiment import experiment
    from convae.training.memory import estimated
    from convae.training.preview import draw, lines
    from convae.training.recipe import read_recipe
    from convae.training.run import RUNS

    with work_bar() as bar:
        made = experiment(read_recipe(recipe or {}, overrides), bar)
    rows = lines(made.plan)
    table = Table(title=f"the plan of {made.recipe.title}", title_justify="left")
    for heading in rows[0]:
        table.add_column(heading, justify="right" if heading == "steps" else "left")
    for row in rows:
        table.add_row(*row.values())
    results.print(table)
    size = made.batches.batch_size
    needed = estimated(made.model.spec, made.recipe.training.checkpointing).bytes(size)
    results.print(
        f"{len(made.batches.split):,} training images, {made.batches.steps_per_epoch:,} steps of {size} in an epoch; "
        f"a step needs about {needed / (1 << 20):,.0f} MiB",
        soft_wrap=True,
    )
    place = absolute_path(out) if out is not None else RUNS / made.recipe.title
    wrote(save(draw(made.plan, f"the plan of {made.recipe.title}"), place.parent / f"{place.name}-plan.png"))
    return 0


def _train(recipe: str | None, overrides: list[str], out: Path | None, resumed: Path | None) -> int:
    from convae.cli._screen import notes, work_bar, wrote
    from convae.training import resume, train
    from convae.training.report import TrainingReport, report_end

    with work_bar() as bar:
        report = TrainingReport(bar)
        if resumed is not None:
            run = resume(resumed, observer=report, progress=bar)
        else:
            run = train(recipe or {}, overrides=overrides, out=out, observer=report, progress=bar)
    if not run.first:
        return 130 if run.stopped and not run.out_of_time else 0
    if run.stopped:
        reason = "time is up" if run.out_of_time else "stopped and saved"
        notes.print(f"{reason}; continue with: convae train --resume {run.path}", soft_wrap=True)
        if not run.out_of_time:
            return 130
    report_end(run)
    wrote(run.path)
    return 0
