"""Training as one call, and going on where it stopped."""

from __future__ import annotations

import base64
import contextlib
import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from convae.core.console import WorkBar, has_viewer
from convae.core.errors import ArtifactError
from convae.core.paths import local_path
from convae.core.progress import Progress
from convae.core.trust import trusted_packages, untrusted_names
from convae.data.snapshot import Snapshot, describe_changes
from convae.model.artifact import load, read_config, save
from convae.model.vae import VAE
from convae.training.checkpoint import Checkpoint, read_checkpoint, read_together, steps
from convae.training.continuing import check_recipe, check_state
from convae.training.distributed import Ranks
from convae.training.experiment import Experiment, experiment
from convae.training.journal import NOTE, Row
from convae.training.launch import launch, launched, restarted
from convae.training.plan import Plan
from convae.training.recipe import Recipe, read_recipe
from convae.training.report import TrainingReport
from convae.training.run_folder import RunFolder, free_path, taken_paths
from convae.training.trainer import Observer, Trainer

RUNS = Path("runs")
"""Where runs go that are told no other place."""


@dataclass(frozen=True, repr=False)
class Run:
    """A training that is over, or was stopped. In a notebook it shows its best metrics and newest pictures.

    Attributes:
        path: the run folder.
        recipe: as it was run, everything written out.
        stopped: whether it ended before its last step; `resume` continues it.
        first: whether this is, of several processes, the one that wrote it.
        out_of_time: whether it was `training.minutes` that stopped it.
    """

    path: Path
    recipe: Recipe
    stopped: bool
    first: bool = True
    out_of_time: bool = False

    def __repr__(self) -> str:
        best = f", best {self.best['total']:.2f} nats" if self.best else ""
        return f"Run({str(self.path)!r}{best}{', stopped' if self.stopped else ''})"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
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
        return load(self.path)

    @property
    def last(self) -> VAE:
        """The last model, in evaluation mode."""
        return load(self.path / "last")

    @property
    def pictures(self) -> Path:
        """The folder of reconstructions, samples and curves."""
        return RunFolder(self.path).pictures

    @property
    def best_step(self) -> int | None:
        """The step after which the best model was saved; None where all models diverged."""
        step: int | None = self._trained.get("step")
        return step

    @property
    def best(self) -> dict[str, float]:
        """The validation metrics of the best model, per image; empty where no images were held out.

        Terms are without their weights, `total` is with those of the end of the stage.
        """
        metrics: dict[str, float] = self._trained.get("validation", {})
        return metrics

    @property
    def _trained(self) -> dict[str, Any]:
        """What the best model says of its training."""
        model = RunFolder(self.path).model
        trained: dict[str, Any] = read_config(model).metadata["training"] if model.exists() else {}
        return trained

    @property
    def metrics(self) -> list[Row]:
        """The rows of the log that hold figures: per image, in stated units, without weights."""
        return [row for row in RunFolder(self.path).rows() if row["split"] != NOTE]

    @property
    def notes(self) -> list[str]:
        """What happened that a person should know of."""
        return [row["note"] for row in RunFolder(self.path).rows() if row["split"] == NOTE]


def train(
    recipe: Recipe | Mapping[str, Any] | str | Path,
    *,
    overrides: Sequence[str] = (),
    out: str | Path | None = None,
    observer: Observer | None = None,
    progress: Progress | None = None,
    quiet: bool = False,
    trust: Iterable[str] = (),
) -> Run:
    """Trains what a recipe describes.

    Args:
        recipe: a recipe, a mapping, or the path of a YAML or JSON file.
        overrides: `key.path=value` each.
        out: the run folder, new or empty; without one, a new folder in `runs/`.
        observer: its methods are called as the training goes; without one, a bar shows it at a terminal and in a
            notebook.
        progress: is called with how far the preparation of the data is.
        quiet: show no bar.
        trust: packages outside convae whose code saved models may use that the recipe starts from or compares with.
            The recipe itself is the user's own and may name any package.

    Raises:
        ConvaeError: the recipe, the data or the place is wrong; one sentence says what.
    """
    recipe, start = _without_model(recipe)
    with (
        trusted_packages(trust),
        launched() as ranks,
        _shown(observer, progress, quiet) as (observer, progress),
    ):
        read = ranks.from_first(partial(read_recipe, recipe, overrides))
        again = ranks.from_first(partial(_began_already, read, out, any(ranks.gather(restarted()))))
        if again is not None:
            return _resume(again, ranks, observer, progress)
        if out is not None:
            ranks.from_first(RunFolder(local_path(out)).free)
        made = ranks.all(partial(experiment, read, progress, ranks, start=start))
        folder = RunFolder(
            local_path(out) if out is not None else ranks.from_first(partial(free_path, RUNS, made.recipe.title))
        )
        if start is not None and made.recipe.start is not None:
            own = made.recipe.start.model_copy(update={"model": folder.start.absolute()})
            made = replace(made, recipe=made.recipe.model_copy(update={"start": own}))
        with _held(folder, ranks):
            ranks.from_first(partial(_begin, folder, made))
            return _fit(replace(made, start=None), folder, None, observer)


def resume(
    path: str | Path,
    *,
    observer: Observer | None = None,
    progress: Progress | None = None,
    quiet: bool = False,
    trust: Iterable[str] = (),
) -> Run:
    """Goes on with a run from its last good checkpoint, as if it had never stopped.

    A checkpoint that is damaged is passed over; the observer is told.

    Args:
        path: of the run folder.
        observer: as for `train`.
        progress: as for `train`.
        quiet: show no bar.
        trust: packages outside convae whose code the run's recipe may use: a run may come from anybody.

    Raises:
        ArtifactError: the folder is no run, or all its checkpoints are damaged.
        OutputError: another process is training into it, or it cannot be written.
        ConvaeError: the data is no longer there.
    """
    with (
        trusted_packages(trust),
        untrusted_names(),
        launched() as ranks,
        _shown(observer, progress, quiet) as (observer, progress),
    ):
        return _resume(RunFolder(local_path(path)), ranks, observer, progress)


@contextlib.contextmanager
def _shown(
    observer: Observer | None, progress: Progress | None, quiet: bool
) -> Iterator[tuple[Observer | None, Progress | None]]:
    """What is called as a training goes: bars, where there is nothing else and somebody watches."""
    if quiet or observer is not None or not has_viewer():
        yield observer, progress
        return
    bar = WorkBar()
    try:
        yield TrainingReport(bar), progress or bar
    finally:
        bar.close()


def _began_already(recipe: Recipe, out: str | Path | None, restarted: bool) -> RunFolder | None:
    """The run that this same launch began, if its processes were started again."""
    own = launch()
    if own is None:
        return None
    paths = taken_paths(RUNS, recipe.title) if out is None else [local_path(out)]
    return next((RunFolder(path) for path in paths if own.began(path, restarted)), None)


@contextlib.contextmanager
def _held(folder: RunFolder, ranks: Ranks) -> Iterator[None]:
    """Inside the block, the first process holds the folder."""
    with contextlib.ExitStack() as stack:
        ranks.from_first(lambda: stack.enter_context(folder.held()))
        yield


def _without_model(
    recipe: Recipe | Mapping[str, Any] | str | Path,
) -> tuple[Recipe | Mapping[str, Any] | str | Path, VAE | None]:
    """A recipe that names no model object, and the model that it named: as `start`, in it, or as `model`."""
    if not isinstance(recipe, Mapping):
        return recipe, None
    model, start = recipe.get("model"), recipe.get("start")
    options = dict(start) if isinstance(start, Mapping) else {"model": start}
    given = next((each for each in (options.get("model"), model) if isinstance(each, VAE)), None)
    if given is None:
        return recipe, None
    written = {key: value for key, value in recipe.items() if key != "model" or not isinstance(value, VAE)}
    written.setdefault("model", (model if isinstance(model, VAE) else given).spec.model_dump(mode="json"))
    if isinstance(options.get("model"), VAE) or start is None:
        written["start"] = {**options, "model": "start"}
        return written, given
    return written, None


def _begin(folder: RunFolder, made: Experiment) -> None:
    """Makes the folder of a new run."""
    folder.begin(made.recipe)
    Snapshot.of(made.data_set.split("all")).write(folder.data)
    if made.start is not None:
        save(made.start.model, folder.start)
    own = launch()
    if own is not None:
        own.sign(folder.path)


def _resume(folder: RunFolder, ranks: Ranks, observer: Observer | None, progress: Progress | None) -> Run:
    recipe = ranks.from_first(folder.recipe)
    with _held(folder, ranks):
        if ranks.from_first(partial(_is_finished, folder, recipe)):
            if observer and ranks.first:
                observer.noted(
                    f"{folder.path} is finished: nothing is left to train. To train on from its model, in a new run: "
                    f"convae train --start {folder.path} --epochs N"
                )
            return Run(folder.path, recipe, stopped=False, first=ranks.first)
        made = ranks.all(partial(experiment, recipe, progress, ranks, is_new=False))

        def recovered() -> Checkpoint | None:
            checkpoint = _last_good(folder, made.plan, observer or Observer())
            folder.recover(checkpoint.state.log_bytes if checkpoint else 0)
            return checkpoint

        changes = ranks.from_first(partial(_data_changes, folder, made))
        return _fit(made, folder, read_together(ranks, recovered), observer, changes)


def _data_changes(folder: RunFolder, made: Experiment) -> str | None:
    """What changed in the data since the run began, in a sentence; what it goes on with counts as trained on."""
    try:
        before = Snapshot.read(folder.data)
    except ArtifactError as error:
        return str(error)
    if before is None:
        return None
    now = Snapshot.of(made.data_set.split("all"))
    sentence = describe_changes(before, now)
    if sentence is not None:
        before.trained_also_on(now).write(folder.data)
    return sentence


def _is_finished(folder: RunFolder, recipe: Recipe) -> bool:
    """Whether the newest checkpoint of a run is that of its end.

    Raises:
        ConfigError: the recipe of the run was changed.
    """
    for path in reversed(steps(folder.checkpoints)):
        with contextlib.suppress(ArtifactError):
            checkpoint = read_checkpoint(path, with_tensors=False)
            check_recipe(recipe, checkpoint.recipe, folder.path)
            return checkpoint.state.finished
    return False


def _last_good(folder: RunFolder, plan: Plan, observer: Observer) -> Checkpoint | None:
    """The newest checkpoint that the run can go on from; None where none was written yet.

    Raises:
        ArtifactError: there are some, but none of them can be used.
    """
    size = folder.metrics.stat().st_size if folder.metrics.exists() else 0
    faults: list[str] = []
    for path in reversed(steps(folder.checkpoints)):
        try:
            checkpoint = read_checkpoint(path)
            state = checkpoint.state
            if size < state.log_bytes:
                raise ArtifactError(f"{folder.metrics}: shorter than when the checkpoint {path.name} was written")
        except ArtifactError as error:
            faults.append(str(error))
            continue
        if faults:
            observer.noted(f"{'; '.join(faults)}: going on from step {state.step} instead")
        check_state(state, plan, path)
        return checkpoint
    if faults:
        raise ArtifactError(f"{'; '.join(faults)}: no checkpoint is left to go on from; begin anew with the recipe")
    return None


def _fit(
    made: Experiment,
    folder: RunFolder,
    checkpoint: Checkpoint | None,
    observer: Observer | None,
    note: str | None = None,
) -> Run:
    """Trains, and leaves a run folder that says how far it came; a note comes first."""
    first = made.ranks.first
    trainer = Trainer(made, folder, checkpoint, observer if observer and first else Observer(), note)
    trainer.fit()
    state, total = trainer.state, trainer.total_steps
    status = f"Training is done: {total} steps."
    if trainer.stopped:
        status = (
            f"Training was stopped after {state.step} of {total} steps: `convae train --resume {folder.path}` goes on."
        )
    elif state.best is not None:
        status += f" The best model is that of step {state.best_step}: {state.best:.2f} nats per validation image."
    if first:
        folder.describe(made.recipe, status)
    return Run(folder.path, made.recipe, trainer.stopped, first, trainer.stopped and trainer.out_of_time)
