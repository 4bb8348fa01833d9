"""Fitting a prior to a trained model, and resuming it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from convae.core.arguments import Named
from convae.core.documents import read_mapping
from convae.core.paths import absolute_path, local_path
from convae.core.progress import Progress
from convae.core.trust import trusted_packages, untrusted_names
from convae.data import DataSet
from convae.data.sources import GIVEN
from convae.data.splits.given import GivenData, given_data
from convae.data.splits.snapshot import Snapshot
from convae.model.artifact import load, save
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
from convae.training.loop.log import RunLog
from convae.training.loop.recovery import is_finished, last_good
from convae.training.loop.task import SavedAs
from convae.training.loop.trainer import Callback
from convae.training.prior.build import build_prior_task, data_of_model
from convae.training.prior.task import PriorTask
from convae.training.recipe.reading import find_start_model, parse_prior_recipe
from convae.training.recipe.schema import PriorRecipe
from convae.training.result import PriorRun
from convae.training.run_folder import RUNS, RunFolder, free_path


def fit_prior(
    model: VAE | str | Path,
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
    with (
        trusted_packages(trust),
        connect_ranks() as ranks,
        show_progress(callback, progress, quiet) as (callback, progress),
    ):
        restarted = any(ranks.gather(was_restarted()))
        recipe, again = ranks.broadcast(partial(_prepare, model, prior, overrides, given, out, restarted))
        if again is not None:
            return resume_prior(again, ranks, callback, progress, given, held)
        task = ranks.run_on_all(partial(build_prior_task, recipe, progress, ranks, model=held, given=given))
        path = local_path(out) if out is not None else ranks.broadcast(partial(free_path, RUNS, task.title))
        folder = RunFolder(path)
        if held is not None:
            own = task.recipe.start.model_copy(update={"model": folder.start.absolute()})
            task.recipe = task.recipe.model_copy(update={"start": own})
        with hold_folder(folder, ranks):
            ranks.broadcast(partial(_begin, folder, task, held))
            return _fit(task, folder, callback)


def resume_prior(
    folder: RunFolder,
    ranks: Ranks,
    callback: Callback | None = None,
    progress: Progress | None = None,
    given: GivenData | None = None,
    held: VAE | None = None,
) -> PriorRun:
    """Resumes a run of `fit_prior`; the result equals that of an uninterrupted run.

    Args:
        folder: run folder.
        ranks: the processes.
        callback: callback.
        progress: called during the preparation of the data.
        given: data passed as objects.
        held: a model of the same modules, of a model that was made of modules.

    Raises:
        ConvaeError: damaged run, or the data is missing.
    """
    recipe = ranks.broadcast(partial(_read_recipe, folder))
    with hold_folder(folder, ranks):
        if ranks.broadcast(lambda: is_finished(folder, recipe) or _is_fitted_at_once(folder)):
            if callback and ranks.is_main:
                callback.on_message(f"{folder.path} is finished: nothing is left to train")
            return PriorRun(folder.path, recipe, stopped=False, is_main=ranks.is_main)
        build = partial(build_prior_task, recipe, progress, ranks, model=held, given=given, folder=folder)
        return _fit(ranks.run_on_all(build), folder, callback, is_new=False)


def _prepare(
    model: VAE | str | Path,
    prior: Named,
    overrides: Sequence[str],
    given: GivenData | None,
    out: str | Path | None,
    restarted: bool,
) -> tuple[PriorRecipe, RunFolder | None]:
    """The checked recipe, and the run that this launch has started already; otherwise checks that `out` is free."""
    recipe = _written(model, prior, overrides, given)
    again = begun_run(recipe.title, out, restarted)
    if again is None and out is not None:
        RunFolder(local_path(out)).free()
    return recipe, again


def _begin(folder: RunFolder, task: PriorTask, model: VAE | None) -> None:
    """Creates the folder of a new run, with a copy of the model."""
    folder.begin(_as_yaml(task.recipe), task.title)
    if isinstance(task.data_set, DataSet):
        Snapshot.of(task.data_set.split("all")).write(folder.data)
    save(load(_start(task.recipe)) if model is None else model, folder.start)
    sign_folder(folder)


def _read_recipe(folder: RunFolder) -> PriorRecipe:
    """The recipe of a run."""
    path = folder.path / "recipe.yaml"
    with untrusted_names():
        return parse_prior_recipe(read_mapping(path), (), str(path))


def _written(model: VAE | str | Path, prior: Named, overrides: Sequence[str], given: GivenData | None) -> PriorRecipe:
    """The checked recipe."""
    start: dict[str, Any] = {"model": "start" if isinstance(model, VAE) else str(absolute_path(local_path(model)))}
    written: dict[str, Any] = {"start": start, "prior": prior}
    if isinstance(model, VAE):
        opened, run = model, None
        written["name"] = f"{model.name}-{prior if isinstance(prior, str) else next(iter(prior))}"
    else:
        with untrusted_names():
            path = find_start_model(start["model"], "best")
            opened = load(path)
        run = next((each for each in (path, path.parent) if (each / "recipe.yaml").is_file()), None)
    if given is not None:
        written["data"] = {
            "source": {GIVEN: given.recorded()},
            "validation": opened.provenance.data.get("validation", 0.1),
        }
    elif not any(each.startswith("data.source=") for each in overrides):
        written["data"] = data_of_model(opened, run)
    else:
        written["data"] = {}
    return parse_prior_recipe(written, overrides, "recipe")


def _start(recipe: PriorRecipe) -> Path:
    """The artifact of the trained model."""
    return find_start_model(recipe.start.model, recipe.start.which)


def _fit(task: PriorTask, folder: RunFolder, callback: Callback | None, is_new: bool = True) -> PriorRun:
    ranks = task.ranks
    if task.prior.is_fitted_at_once:
        return _save_fitted(task, folder, callback if callback and ranks.is_main else Callback())

    def recover() -> Checkpoint | None:
        checkpoint = last_good(folder, task.plan, (callback or Callback()).on_message)
        folder.recover(checkpoint.progress.log_bytes if checkpoint else 0)
        return checkpoint

    trainer = run_task(task, folder, None if is_new else read_together(ranks, recover), callback)
    out_of_time = trainer.stopped and trainer.out_of_time
    return PriorRun(folder.path, task.recipe, trainer.stopped, ranks.is_main, out_of_time)


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
    return PriorRun(folder.path, task.recipe, stopped=False, is_main=is_main)


def _as_yaml(recipe: PriorRecipe) -> str:
    """A recipe as YAML, every option written out."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
