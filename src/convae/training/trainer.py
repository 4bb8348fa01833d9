"""The loop: batches to losses to weights, watched, and ready to stop and go on at any step."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import torch

from convae.core.errors import TrainingError
from convae.core.files import writing
from convae.core.random import key, torch_generator
from convae.data import Batch
from convae.model.artifact import save
from convae.training.checkpoint import Checkpoint, TrainingState, save_checkpoint
from convae.training.experiment import Experiment
from convae.training.freezing import Frozen
from convae.training.gallery import Gallery
from convae.training.means import Means
from convae.training.optimizer import optimizer
from convae.training.plan import Stage
from convae.training.run_folder import RunFolder
from convae.training.stage_objective import Clocks
from convae.training.stopping import Stop, stop_on_signals
from convae.training.validation import validate

Row = dict[str, Any]


class Observer:
    """Is told how a training goes on; a progress bar, say. Every method may be overridden, none has to be."""

    def begun(self, trainer: Trainer) -> None:
        """Training begins, or goes on, at `trainer.state.step`."""

    def stepped(self, trainer: Trainer) -> None:
        """A step is done; `trainer.stop()` makes it the last."""

    def logged(self, row: Row) -> None:
        """A row of figures was written."""

    def ended(self, trainer: Trainer) -> None:
        """Training is over, done or stopped."""


class Trainer:
    """Trains the model of an experiment into a run folder.

    What step t does is a function of the recipe, the data and t alone, so a run that was stopped and resumed is the
    same, bit for bit on the CPU, as one that never stopped.

    Args:
        experiment: the objects of the run.
        folder: where everything is written.
        checkpoint: where to go on; None at the beginning.
        observer: is told how it goes on.
    """

    def __init__(
        self, experiment: Experiment, folder: RunFolder, checkpoint: Checkpoint | None, observer: Observer
    ) -> None:
        self.experiment = experiment
        self.folder = folder
        self.state = checkpoint.state if checkpoint else TrainingState()
        self._plan = experiment.plan
        self._observer = observer
        self._options = experiment.recipe.training
        self._per_epoch = experiment.batches.steps_per_epoch
        self._gallery = Gallery(experiment, folder)
        self._since_row = Means(experiment.device, self.state.since_row)
        self._since_epoch = Means(experiment.device, self.state.since_epoch)
        self._stop = Stop()
        self._optimizer = optimizer(self.stage.optimizer, experiment.model)
        self._enter()
        if checkpoint:
            checkpoint.put_into(experiment.model, self._optimizer)

    @property
    def stage(self) -> Stage:
        """The stage that is running, or was the last."""
        return self._plan.running(self.state.began)

    @property
    def total_steps(self) -> int:
        """Steps of the whole training; less than it said before when a plateau ended a stage."""
        return self.state.step if self.state.finished else self._plan.total(self.state.began)

    def stop(self) -> None:
        """Asks the training to end after the step that is running, with a checkpoint."""
        self._stop.requested = True

    @property
    def stopped(self) -> bool:
        """Whether training ended before its last step."""
        return not self.state.finished

    def fit(self) -> None:
        """Trains from the state's step to the last, or until asked to stop; a checkpoint is written at the end.

        Raises:
            TrainingError: the loss is no longer finite.
            OutputError: something cannot be written.
        """
        # Layers that draw (dropout) use torch's default generator, seeded for each step; the caller's is left alone.
        with stop_on_signals(self._stop), torch.random.fork_rng():
            self._observer.begun(self)
            try:
                while self.stopped and not self._stop.requested:
                    self._frozen.train()
                    self._epoch()
            finally:
                self._observer.ended(self)
        self.experiment.model.eval()

    def _enter(self) -> None:
        """Freezes what the running stage freezes."""
        self._frozen = Frozen(self.experiment.model, self.stage.freeze, f"stage '{self.stage.name}': freeze")
        self._frozen.apply()

    def _epoch(self) -> None:
        """The steps that are left of the running epoch or, if that is over before, of the running stage."""
        epoch, start = divmod(self.state.step, self._per_epoch)
        began, first = time.perf_counter(), self.state.step
        limit = self._plan.end(self.state.began)
        for batch in self.experiment.batches.iterate(epoch, start, self.experiment.device):
            self._step(batch)
            step = self.state.step
            over = step % self._per_epoch == 0 or step == limit
            if step % self._options.log_every == 0 or step == limit:
                self._log_training()
            if over:
                self._write_timing(epoch, step - first, time.perf_counter() - began)
                self._pause(limit)
            self._observer.stepped(self)
            every = self._options.checkpoint_every
            if self._stop.requested or over or (every and step % every == 0):
                self._checkpoint()
            if self._stop.requested or over:
                return

    def _pause(self, limit: int) -> None:
        """What is done after an epoch, and after a stage, which the figures may end here."""
        figures = self._validate()
        ends = self.state.step == limit or self._at_plateau(figures)
        self._since_epoch.clear()
        self._gallery.hang(self.state, final=ends)
        if ends:
            self._advance()

    def _at_plateau(self, figures: dict[str, float]) -> bool:
        """Whether the figure that the stage watches has been without progress for so long that the stage is over."""
        rule, state = self.stage.plateau, self.state
        if rule is None or self._clocks().stage.epoch < rule.after:
            return False
        figure = figures[rule.of]
        if state.watched is None or figure < state.watched - rule.change * abs(state.watched):
            state.watched, state.waited = figure, 0
        else:
            state.waited += 1
        return state.waited >= rule.patience

    def _advance(self) -> None:
        """From a stage that is over to the next, if there is one."""
        self._log_training()
        state = self.state
        if len(state.began) == len(self._plan.stages):
            state.finished = True
            return
        state.began.append(state.step)
        state.watched, state.waited, state.best, state.best_step = None, 0, None, None
        if self.stage.fresh:
            self._optimizer = optimizer(self.stage.optimizer, self.experiment.model)
        self._enter()

    def _clocks(self) -> Clocks:
        return self._plan.clocks(self.state.began, self.state.step)

    def _step(self, batch: Batch) -> None:
        """One step of the optimiser."""
        model, seed = self.experiment.model, self._options.seed
        torch.manual_seed(key(seed, "layers", self.state.step))
        noise = torch_generator(seed, "latent", self.state.step)
        losses = self.stage.objective(batch, model(batch.images, noise), self._clocks())
        self._optimizer.zero_grad(set_to_none=True)
        losses.total.backward()
        if self.stage.optimizer.clip is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), self.stage.optimizer.clip)
        for group in self._optimizer.param_groups:
            group["lr"] = self._plan.rate(self.state.began, self.state.step)
        self._optimizer.step()
        self.state.step += 1
        dtype = self._since_row.dtype
        figures = {"total": losses.total, **{name: term.to(dtype).mean() for name, term in losses.terms.items()}}
        self._since_row.add(figures)
        self._since_epoch.add(figures)

    def _log_training(self) -> None:
        """A row with the means since the last one, if a step was done since."""
        figures = self._since_row.read()
        self._since_row.clear()
        if not figures:
            return
        self._write_row("train", figures, {"lr": self._plan.rate(self.state.began, self.state.step)})
        if not math.isfinite(figures["total"]):
            raise TrainingError(
                f"the loss is no longer a finite number near step {self.state.step}: try a smaller "
                "training.optimizer.lr or set training.optimizer.clip, and resume from the last checkpoint in "
                f"{self.folder.checkpoints}"
            )

    def _validate(self) -> dict[str, float]:
        """A row of figures on the validation images; the best model is saved.

        Returns:
            The figures by which the stage is judged, with the total under the weights of its end: totals under
            weights that change cannot be compared.
        """
        state, goal = self.state, self.stage.objective
        at_end = self._plan.clocks(state.began, self._plan.end(state.began))
        if self.experiment.validation is None:
            self._save_model("last, since no images were held out for validation")
            figures = self._since_epoch.read()
            return {**figures, "total": goal.total(figures, at_end)}
        figures = validate(self.experiment, goal, self._clocks())
        judged = {"total": goal.total(figures, at_end), **figures}
        self._frozen.train()
        more = {"total_at_end": judged["total"]}
        self._write_row("validation", {"total": goal.total(figures, self._clocks()), **figures}, more)
        if state.best is None or judged["total"] < state.best:
            state.best, state.best_step = judged["total"], state.step
            self._save_model("best on the validation images", judged)
        return judged

    def _save_model(self, which: str, figures: dict[str, float] | None = None) -> None:
        """The artifact, with where it came from."""
        model, recipe = self.experiment.model, self.experiment.recipe
        model.metadata = {
            "data": recipe.data.model_dump(mode="json", exclude={"dir"}),
            "training": {
                "recipe": recipe.title,
                "data": self.experiment.batches.split.describe(),
                "step": self.state.step,
                "stage": self.stage.name,
                "which": which,
                "objective": recipe.objective,
                **({"validation": figures} if figures else {}),
            },
        }
        save(model, self.folder.model)

    def _checkpoint(self) -> None:
        self.state.since_row, self.state.since_epoch = self._since_row.sums(), self._since_epoch.sums()
        self.state.log_bytes = self.folder.metrics.stat().st_size
        save_checkpoint(self.folder.checkpoints, self.state, self.experiment.model, self._optimizer, self._options.keep)

    def _write_row(self, split: str, figures: dict[str, float], more: dict[str, float]) -> None:
        """A line of the log: figures are per image, in their terms' units, without weights."""
        epoch = round(self.state.step / self._per_epoch, 6)
        row: Row = {"split": split, "step": self.state.step, "epoch": epoch, **figures, **more}
        self._append(self.folder.metrics, row)
        self._observer.logged(row)

    def _write_timing(self, epoch: int, steps: int, seconds: float) -> None:
        images = steps * self.experiment.batches.batch_size
        row = {"epoch": epoch + 1, "steps": steps, "seconds": round(seconds, 3)}
        self._append(self.folder.timings, {**row, "images_per_second": round(images / seconds, 1)})

    @staticmethod
    def _append(path: Any, row: Row) -> None:
        with writing(path), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
