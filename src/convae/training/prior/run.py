"""Fitting a prior to a trained model, and resuming it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from convae.core.arguments import Named, split_name
from convae.core.documents import read_mapping
from convae.core.progress import Progress
from convae.core.trust import untrusted_names
from convae.data.sources import GIVEN
from convae.data.splits.given import GivenData, given_data
from convae.model.artifact import load
from convae.model.pretrained import model_path
from convae.model.priors import PRIORS
from convae.model.vae import VAE
from convae.training.execution import Execution, complete_files, open_execution, recover_run, run_task
from convae.training.loop.checkpoint import read_together
from convae.training.loop.log import RunLog
from convae.training.loop.recovery import read_finished_progress
from convae.training.loop.task import SavedAs
from convae.training.loop.trainer import Callback
from convae.training.prior.build import build_prior_task
from convae.training.prior.task import PriorTask
from convae.training.recipe.reading import parse_prior_recipe
from convae.training.recipe.schema import PriorRecipe
from convae.training.recipe.start import choose_data, find_start_model, open_trained_model
from convae.training.result import PriorRun
from convae.training.run_folder import RunFolder


def fit_prior(
    model: VAE | str | os.PathLike[str],
    prior: Named,
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
) -> PriorRun:
    """Fits a prior to the latents of a trained model, whose other parts stay as they are.

    Started by torchrun, several processes share the images and every batch, as in `train`. The models of the run are
    the trained model with the prior: `fit_prior(path, "transformer").model.sample(16)`.

    Args:
        model: a run, an artifact, or a model.
        prior: name of the prior, or a mapping of its name to its arguments.
        data: images as objects, as for `train`; by default the training data of the model.
        labels: as for `train`.
        validation: as for `train`.
        channels_last: as for `train`.
        overrides: `key.path=value` each, such as `training.epochs=20`.
        out: the run folder, new or empty; by default a new folder in `runs/`.
        callback: callback; by default a progress bar on a terminal and in notebooks.
        progress: called during the preparation of the data.
        quiet: no progress bar.
        trust: packages outside convae whose code the model may use.

    Raises:
        ConfigError: the prior does not fit the latents of the model.
        ConvaeError: invalid options, data or folder.
    """
    given = given_data(data, labels, validation, channels_last)
    held = model if isinstance(model, VAE) else None
    with open_execution(callback, progress, quiet, trust) as execution:
        recipe, begun = execution.read(partial(_read_options, model, prior, overrides, given), out)
        if begun is not None:
            return resume_prior(begun, execution, given, held)
        ranks = execution.ranks
        build = partial(build_prior_task, recipe, execution.progress, ranks, model=held, given=given)
        task = ranks.run_on_all(build)
        folder = execution.new_folder(task.title, out)
        if held is not None:
            own = task.recipe.start.model_copy(update={"model": folder.start.absolute()})
            task.recipe = task.recipe.model_copy(update={"start": own})
        with execution.held(folder):
            execution.begin(folder, task.recipe, task.data_set, lambda: held or _load_start(task.recipe))
            return _fit(task, folder, execution.callback)


def resume_prior(folder: RunFolder, execution: Execution, given: GivenData | None, held: VAE | None) -> PriorRun:
    """Resumes a run of `fit_prior`; the result equals that of an uninterrupted run.

    Args:
        folder: run folder.
        execution: processes and callbacks.
        given: data passed as objects.
        held: a model of the same modules, of a model that was made of modules.

    Raises:
        ConvaeError: damaged run, or the data is missing.
    """
    ranks = execution.ranks
    recipe = ranks.broadcast(partial(_read_recipe, folder))
    with execution.held(folder):
        progress = ranks.broadcast(partial(read_finished_progress, folder, recipe))
        if progress is not None or ranks.broadcast(partial(_is_fitted_at_once, folder)):
            run = PriorRun(folder.path, recipe, stopped=False, is_main=ranks.is_main)
            if progress is not None:
                unit = PRIORS.get(split_name(recipe.prior, "prior")[0]).loss_unit
                ranks.broadcast(partial(complete_files, folder, recipe.title, progress, unit))
            execution.say(f"{folder.path} is finished: nothing is left to train")
            return run
        build = partial(build_prior_task, recipe, execution.progress, ranks, model=held, given=given, folder=folder)
        return _fit(ranks.run_on_all(build), folder, execution.callback, is_new=False)


def _read_recipe(folder: RunFolder) -> PriorRecipe:
    """The recipe of a run."""
    path = folder.path / "recipe.yaml"
    with untrusted_names():
        return parse_prior_recipe(read_mapping(path), (), str(path))


def _read_options(
    model: VAE | str | os.PathLike[str], prior: Named, overrides: Sequence[str], given: GivenData | None
) -> PriorRecipe:
    """The checked recipe of a new run."""
    opened, run = open_trained_model(model)
    data, overrides = choose_data(opened, run, overrides, has_objects=given is not None)
    written: dict[str, Any] = {
        "start": {"model": "start" if isinstance(model, VAE) else str(model_path(model, Path()))},
        "prior": prior,
        "data": data if given is None else {**data, "source": {GIVEN: given.recorded()}},
    }
    if isinstance(model, VAE):
        written["name"] = f"{model.name}-{prior if isinstance(prior, str) else next(iter(prior))}"
    return parse_prior_recipe(written, overrides, "recipe")


def _load_start(recipe: PriorRecipe) -> VAE:
    """The trained model."""
    return load(find_start_model(recipe.start.model, recipe.start.which))


def _fit(task: PriorTask, folder: RunFolder, callback: Callback | None, is_new: bool = True) -> PriorRun:
    ranks = task.ranks
    if task.prior.is_fitted_at_once:
        return _save_fitted(task, folder, callback if callback and ranks.is_main else Callback())

    checkpoint = None if is_new else read_together(ranks, partial(recover_run, folder, task, callback))
    trainer = run_task(task, folder, checkpoint, callback)
    out_of_time = trainer.stopped and trainer.out_of_time
    return PriorRun(folder.path, task.recipe, trainer.stopped, ranks.is_main, out_of_time, _made_of(task))


def _made_of(task: PriorTask) -> VAE | None:
    """The model with its prior, if it was made of modules."""
    return None if task.model.is_described else task.model


def _is_fitted_at_once(folder: RunFolder) -> bool:
    """Whether a run without checkpoints has its model."""
    return folder.model.exists() and not any(folder.checkpoints.glob("*"))


def _save_fitted(task: PriorTask, folder: RunFolder, callback: Callback) -> PriorRun:
    """Validates a prior that was fitted without steps, in every process; the main one logs, draws and saves."""
    is_main = task.ranks.is_main
    found = task.validate(None, None, None)
    if is_main:
        folder.recover(0)
        log = RunLog(folder, task.batches.steps_per_epoch, True)
        for sentence in [*task.summary(), *task.notes]:
            callback.on_message(sentence)
        for sentence in task.notes:
            log.write("note", 0, {"note": sentence})
        if found is not None:
            callback.on_log(log.write("validation", 0, dict(found.row)))
        if task.options.pictures_every:
            task.draw(folder.pictures, 0)
        metrics, which = ({}, "last") if found is None else (found.judged, "best on the validation images")
        task.save(folder.last, SavedAs("last", 0, "fitted", metrics))
        task.save(folder.model, SavedAs(which, 0, "fitted", metrics))
        log.tabulate()
        folder.describe(task.title, "The prior is fitted.")
    task.ranks.gather(None)  # a process that ends before the main one has written would be taken for a failed one
    return PriorRun(folder.path, task.recipe, stopped=False, is_main=is_main, made_of=_made_of(task))
