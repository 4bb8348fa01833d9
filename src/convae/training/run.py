"""Training by a recipe, resuming, and training a task of your own."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from convae.core.errors import ArtifactError
from convae.core.names import count_text
from convae.core.paths import local_path
from convae.core.progress import Progress
from convae.core.trust import untrusted_names
from convae.data import DataSet
from convae.data.splits.given import GivenData, given_data, record_given
from convae.data.splits.snapshot import Snapshot, describe_changes
from convae.model.vae import VAE
from convae.training.execution import Execution, complete_files, open_execution, recover_run, run_task
from convae.training.loop.checkpoint import read_together
from convae.training.loop.recovery import read_finished_progress
from convae.training.loop.task import Task
from convae.training.loop.trainer import Callback, Trainer
from convae.training.prior.run import resume_prior
from convae.training.recipe.reading import is_prior_recipe, read_recipe
from convae.training.recipe.schema import Recipe
from convae.training.result import Run
from convae.training.run_folder import RunFolder
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
            not changed; one made of modules must be passed to `resume` and `convae.load` again.
        data: images as objects instead of the recipe's: a NumPy array or a tensor, (images, channels, *sizes), of
            uint8, uint16, booleans or floats in [0, 1]; or a map-style torch Dataset of images or (image, label) pairs.
            The recipe records their number, shape and digest; `resume` needs them again.
        labels: (images,) class numbers of `data`, -1 if missing.
        validation: validation images, or (images, labels); by default the fraction `data.validation` is held out.
        channels_last: whether an array is (images, *sizes, channels), or those of a dataset (*sizes, channels).
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
    with open_execution(callback, progress, quiet, trust) as execution:
        read, begun = execution.read(partial(read_recipe, recipe, overrides), out)
        if begun is not None:
            return _resume(begun, execution, given, held)
        ranks = execution.ranks
        build = partial(build_task, read, execution.progress, ranks, start=start, given=given, held=held)
        made = ranks.run_on_all(build)
        folder = execution.new_folder(made.title, out)
        if start is not None:
            made = made.starting_from(folder.start)
        with execution.held(folder):
            execution.begin(
                folder, made.recipe, made.data_set, lambda: None if made.start is None else made.start.model
            )
            made.start = None  # whose weights are in the folder now
            return _result(made, run_task(made, folder, None, execution.callback), held)


def resume(
    path: str | os.PathLike[str],
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
    with open_execution(callback, progress, quiet, trust) as execution, untrusted_names():
        given = given_data(data, labels, validation, channels_last)
        folder = RunFolder(local_path(path))
        if is_prior_recipe(folder.path / "recipe.yaml"):
            return resume_prior(folder, execution, given, model)
        return _resume(folder, execution, given, model)


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
        checkpoint = recover_run(folder, task, callback)
        trainer = Trainer(task, folder, checkpoint, callback)
        trainer.fit()
        step, total = trainer.progress.step, trainer.total_steps
        stopped = f"Training was stopped after {step:,} of {count_text(total, 'step')}."
        folder.describe(task.title, stopped if trainer.stopped else f"Training is done: {count_text(total, 'step')}.")
        return trainer


def _resume(folder: RunFolder, execution: Execution, given: GivenData | None, held: VAE | None) -> Run:
    ranks, callback = execution.ranks, execution.callback
    recipe = ranks.broadcast(folder.recipe)
    with execution.held(folder):
        if (progress := ranks.broadcast(partial(read_finished_progress, folder, recipe))) is not None:
            run = Run(folder.path, recipe, stopped=False, is_main=ranks.is_main, made_of=held)
            ranks.broadcast(partial(complete_files, folder, recipe.title, progress, run.total_unit))
            execution.say(
                f"{folder.path} is finished: nothing is left to train. To train on from its model, in a new run: "
                f"convae train --start {folder.path} --epochs N"
            )
            return run
        build = partial(build_task, recipe, execution.progress, ranks, given=given, held=held, folder=folder)
        made = ranks.run_on_all(build)
        changes = ranks.broadcast(partial(_data_changes, folder, made))
        checkpoint = read_together(ranks, partial(recover_run, folder, made, callback))
        return _result(made, run_task(made, folder, checkpoint, callback, changes), held)


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


def _result(made: VAETask, trainer: Trainer, held: VAE | None) -> Run:
    out_of_time = trainer.stopped and trainer.out_of_time
    return Run(trainer.folder.path, made.recipe, trainer.stopped, made.ranks.is_main, out_of_time, held)
