"""Training by a recipe, resuming, and training a task of your own."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from convae.core.errors import ArtifactError
from convae.core.paths import local_path
from convae.core.progress import Progress
from convae.core.trust import trusted_packages, untrusted_names
from convae.data import DataSet
from convae.data.splits.given import GivenData, given_data, record_given
from convae.data.splits.snapshot import Snapshot, describe_changes
from convae.model.artifact import save
from convae.model.vae import VAE
from convae.training.distributed import Ranks
from convae.training.execution import (
    begun_run,
    connect_ranks,
    hold_folder,
    run_task,
    show_progress,
    sign_folder,
    was_restarted,
)
from convae.training.loop.checkpoint import Checkpoint, read_together
from convae.training.loop.recovery import is_finished, last_good
from convae.training.loop.task import Task
from convae.training.loop.trainer import Callback, Trainer
from convae.training.prior.run import resume_prior
from convae.training.recipe.reading import is_prior_recipe, read_recipe, write_recipe
from convae.training.recipe.schema import Recipe
from convae.training.result import Run
from convae.training.run_folder import RUNS, RunFolder, free_path
from convae.training.vae.build import build_task
from convae.training.vae.start import split_off_model
from convae.training.vae.task import VAETask


def train(
    recipe: Recipe | Mapping[str, Any] | str | Path,
    *,
    data: Any = None,
    labels: Any = None,
    validation: Any = None,
    channels_last: bool = False,
    overrides: Sequence[str] = (),
    out: str | Path | None = None,
    callback: Callback | None = None,
    progress: Progress | None = None,
    quiet: bool = False,
    trust: Iterable[str] = (),
) -> Run:
    """Trains a model by a recipe.

    Args:
        recipe: a recipe, a mapping, or the path of a YAML or JSON file. In a mapping, `model` may be a `VAE`, which is
            not changed; one made of modules must be passed to `resume` and `load` again.
        data: images as objects instead of the recipe's: a NumPy array or a tensor, (images, channels, *sizes), of
            uint8, uint16, booleans or floats in [0, 1]; or a map-style torch Dataset of images or (image, label) pairs.
            The recipe records their number, shape and digest; `resume` needs them again.
        labels: (images,) class numbers of `data`, -1 if missing.
        validation: validation images, or (images, labels); by default the fraction `data.validation` is held out.
        channels_last: whether an array is (images, *sizes, channels).
        overrides: `key.path=value` each.
        out: the run folder, new or empty; by default a new folder in `runs/`.
        callback: callback; by default a progress bar on a terminal and in notebooks.
        progress: called during the preparation of the data.
        quiet: no progress bar.
        trust: packages outside convae whose code saved models named in the recipe may use. The recipe itself may name
            any package.

    Raises:
        ConvaeError: invalid recipe, data or folder.
    """
    recipe, start = split_off_model(recipe)
    held = start if start is not None and not start.is_described else None
    given = given_data(data, labels, validation, channels_last)
    if given is not None:
        recipe, overrides = record_given(recipe, overrides, given)
    with (
        trusted_packages(trust),
        connect_ranks() as ranks,
        show_progress(callback, progress, quiet) as (callback, progress),
    ):
        restarted = any(ranks.gather(was_restarted()))
        read, again = ranks.broadcast(partial(_prepare, recipe, overrides, out, restarted))
        if again is not None:
            return _resume(again, ranks, callback, progress, given, held)
        made = ranks.run_on_all(partial(build_task, read, progress, ranks, start=start, given=given, held=held))
        path = local_path(out) if out is not None else ranks.broadcast(partial(free_path, RUNS, made.title))
        folder = RunFolder(path)
        if start is not None:
            made = made.starting_from(folder.start)
        with hold_folder(folder, ranks):
            ranks.broadcast(partial(_begin, folder, made))
            made.start = None  # whose weights are in the folder now
            return _result(made, run_task(made, folder, None, callback))


def resume(
    path: str | Path,
    *,
    model: VAE | None = None,
    data: Any = None,
    labels: Any = None,
    validation: Any = None,
    channels_last: bool = False,
    callback: Callback | None = None,
    progress: Progress | None = None,
    quiet: bool = False,
    trust: Iterable[str] = (),
) -> Run:
    """Resumes a run from its last good checkpoint; the result equals that of an uninterrupted run.

    A run of `fit_prior` is resumed as well; the result is then a `PriorRun`.

    Damaged checkpoints are skipped, with a message to the callback.

    Args:
        path: the run folder.
        model: for a run whose model was made of modules: a model of the same modules, which is not changed.
        data: for a run with data passed as objects: the same data; see `train`.
        labels: as for `train`.
        validation: as for `train`.
        channels_last: as for `train`.
        callback: as for `train`.
        progress: as for `train`.
        quiet: no progress bar.
        trust: packages outside convae whose code the recipe of the run may use.

    Raises:
        ArtifactError: not a run folder, or all checkpoints are damaged.
        OutputError: another process is training into it, or it cannot be written.
        ConvaeError: the data is missing.
    """
    with (
        trusted_packages(trust),
        untrusted_names(),
        connect_ranks() as ranks,
        show_progress(callback, progress, quiet) as (callback, progress),
    ):
        given = given_data(data, labels, validation, channels_last)
        folder = RunFolder(local_path(path))
        if is_prior_recipe(folder.path / "recipe.yaml"):
            return resume_prior(folder, ranks, callback, progress, given, model)
        return _resume(folder, ranks, callback, progress, given, model)


def train_task(task: Task, out: str | Path, *, callback: Callback | None = None) -> Trainer:
    """Trains a task into a run folder, or continues from its last good checkpoint, in one process.

    Args:
        task: the task, with its initial weights.
        out: the run folder: new, empty, or of an interrupted training of the same task.
        callback: called during the training.

    Returns:
        The trainer after the last step; its `stopped` is true if a callback or a signal stopped it.

    Raises:
        OutputError: the folder has other files, is in use, or cannot be written.
        ArtifactError: it has checkpoints, but none of them is usable.
    """
    folder = RunFolder(local_path(out))
    with folder.held():
        if not (folder.path / "recipe.yaml").is_file():
            folder.begin(json.dumps(task.description(), indent=2) + "\n", task.title)
        checkpoint = _recover(folder, task, callback)
        trainer = Trainer(task, folder, checkpoint, callback)
        trainer.fit()
        step, total = trainer.progress.step, trainer.total_steps
        stopped = f"Training was stopped after {step} of {total} steps."
        folder.describe(task.title, stopped if trainer.stopped else f"Training is done: {total} steps.")
        return trainer


def _prepare(
    recipe: Recipe | Mapping[str, Any] | str | Path,
    overrides: Sequence[str],
    out: str | Path | None,
    restarted: bool,
) -> tuple[Recipe, RunFolder | None]:
    """The validated recipe, and the run that this launch has started already; otherwise checks that `out` is free."""
    read = read_recipe(recipe, overrides)
    again = begun_run(read.title, out, restarted)
    if again is None and out is not None:
        RunFolder(local_path(out)).free()
    return read, again


def _begin(folder: RunFolder, made: VAETask) -> None:
    """Creates the folder of a new run."""
    folder.begin(write_recipe(made.recipe), made.title)
    if isinstance(made.data_set, DataSet):
        Snapshot.of(made.data_set.split("all")).write(folder.data)
    if made.start is not None:
        save(made.start.model, folder.start)
    sign_folder(folder)


def _resume(
    folder: RunFolder,
    ranks: Ranks,
    callback: Callback | None,
    progress: Progress | None,
    given: GivenData | None,
    held: VAE | None,
) -> Run:
    recipe = ranks.broadcast(folder.recipe)
    with hold_folder(folder, ranks):
        if ranks.broadcast(partial(is_finished, folder, recipe)):
            if callback and ranks.is_main:
                callback.on_message(
                    f"{folder.path} is finished: nothing is left to train. To train on from its model, in a new run: "
                    f"convae train --start {folder.path} --epochs N"
                )
            return Run(folder.path, recipe, stopped=False, is_main=ranks.is_main)
        made = ranks.run_on_all(partial(build_task, recipe, progress, ranks, given=given, held=held, folder=folder))

        def recovered() -> Checkpoint | None:
            return _recover(folder, made, callback)

        changes = ranks.broadcast(partial(_data_changes, folder, made))
        return _result(made, run_task(made, folder, read_together(ranks, recovered), callback, changes))


def _recover(folder: RunFolder, task: Task, callback: Callback | None) -> Checkpoint | None:
    """The checkpoint to continue from, after the files of the run were restored to its step."""
    say = (callback or Callback()).on_message
    checkpoint = last_good(folder, task.plan, say)
    lost = folder.recover(checkpoint.progress.log_bytes if checkpoint else 0)
    if lost is not None:
        say(lost)
    return checkpoint


def _data_changes(folder: RunFolder, made: VAETask) -> str | None:
    """Describes changes of the data since the run began; current training images are recorded as trained on."""
    try:
        before = Snapshot.read(folder.data)
    except ArtifactError as error:
        return str(error)
    if before is None or not isinstance(made.data_set, DataSet):
        return None
    now = Snapshot.of(made.data_set.split("all"))
    sentence = describe_changes(before, now)
    if sentence is not None:
        before.trained_also_on(now).write(folder.data)
    return sentence


def _result(made: VAETask, trainer: Trainer) -> Run:
    out_of_time = trainer.stopped and trainer.out_of_time
    return Run(trainer.folder.path, made.recipe, trainer.stopped, made.ranks.is_main, out_of_time)
