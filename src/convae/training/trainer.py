"""The loop: batches to losses to weights, watched, and ready to stop and go on at any step."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import torch
from torch import Tensor

from convae.core.errors import TrainingError
from convae.core.files import writing
from convae.core.random import key, torch_generator
from convae.data import Batch, in_order
from convae.model.artifact import save
from convae.objective.schedules.base import Moment
from convae.training.checkpoint import TrainingState, save_checkpoint
from convae.training.experiment import Experiment
from convae.training.gallery import Gallery
from convae.training.run_folder import RunFolder
from convae.training.stopping import Stop, stop_on_signals

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
        state: where to begin; the model and the optimiser are in that state already.
        observer: is told how it goes on.
    """

    def __init__(self, experiment: Experiment, folder: RunFolder, state: TrainingState, observer: Observer) -> None:
        self.experiment = experiment
        self.folder = folder
        self.state = state
        self.total_steps = experiment.steps
        self._observer = observer
        self._options = experiment.recipe.training
        self._per_epoch = experiment.batches.steps_per_epoch
        self._gallery = Gallery(experiment, folder)
        # Sums stay on the device: reading one would wait for it at every step. MPS has no float64.
        self._precision = torch.float32 if experiment.device.type == "mps" else torch.float64
        self._sums = {name: self._scalar(value) for name, value in state.sums.items()}
        self._stop = Stop()

    def stop(self) -> None:
        """Asks the training to end after the step that is running, with a checkpoint."""
        self._stop.requested = True

    @property
    def stopped(self) -> bool:
        """Whether training ended before its last step."""
        return self.state.step < self.total_steps

    def fit(self) -> None:
        """Trains from the state's step to the last, or until asked to stop; a checkpoint is written at the end.

        Raises:
            TrainingError: the loss is no longer finite.
            OutputError: something cannot be written.
        """
        model = self.experiment.model
        # Layers that draw (dropout) use torch's default generator, seeded for each step; the caller's is left alone.
        with stop_on_signals(self._stop), torch.random.fork_rng():
            self._observer.begun(self)
            try:
                while self.stopped and not self._stop.requested:
                    model.train()
                    self._epoch()
            finally:
                self._observer.ended(self)
        model.eval()

    def _epoch(self) -> None:
        """The steps that are left of the running epoch."""
        epoch, start = divmod(self.state.step, self._per_epoch)
        began, first = time.perf_counter(), self.state.step
        for batch in self.experiment.batches.iterate(epoch, start, self.experiment.device):
            self._step(batch)
            step = self.state.step
            over = step % self._per_epoch == 0 or step == self.total_steps
            if step % self._options.log_every == 0 or step == self.total_steps:
                self._log_training()
            if over:
                self._write_timing(epoch, step - first, time.perf_counter() - began)
                self._validate()
                self._gallery.hang(step, final=step == self.total_steps)
            self._observer.stepped(self)
            every = self._options.checkpoint_every
            if self._stop.requested or over or (every and step % every == 0):
                self._checkpoint()
            if self._stop.requested or over:
                return

    def _moment(self) -> Moment:
        step = self.state.step
        return Moment(step, step / self._per_epoch, step / self.total_steps)

    def _step(self, batch: Batch) -> None:
        """One step of the optimiser."""
        experiment, seed = self.experiment, self._options.seed
        moment = self._moment()
        torch.manual_seed(key(seed, "layers", self.state.step))
        noise = torch_generator(seed, "latent", self.state.step)
        output = experiment.model(batch.images, noise)
        losses = experiment.objective(batch, output, moment)
        experiment.optimizer.zero_grad(set_to_none=True)
        losses.total.backward()
        if self._options.optimizer.clip is not None:
            torch.nn.utils.clip_grad_norm_(experiment.model.parameters(), self._options.optimizer.clip)
        rate = experiment.learning_rate(moment, self.total_steps)
        for group in experiment.optimizer.param_groups:
            group["lr"] = rate
        experiment.optimizer.step()
        self.state.step += 1
        self.state.summed += 1
        for name, value in {"total": losses.total, **losses.terms}.items():
            self._sums[name] = self._sums.get(name, self._scalar(0.0)) + value.detach().to(self._precision).mean()

    def _log_training(self) -> None:
        """A row with the means since the last one."""
        figures = {name: float(value) / self.state.summed for name, value in self._sums.items()}
        moment = self._moment()
        self._write_row("train", figures, {"lr": self.experiment.learning_rate(moment, self.total_steps)})
        self._sums, self.state.summed = {}, 0
        if not math.isfinite(figures["total"]):
            raise TrainingError(
                f"the loss is no longer a finite number near step {self.state.step}: try a smaller "
                "training.optimizer.lr or set training.optimizer.clip, and resume from the last checkpoint in "
                f"{self.folder.checkpoints}"
            )

    @torch.no_grad()
    def _validate(self) -> None:
        """A row with the exact means over the validation images; the best model is saved."""
        experiment = self.experiment
        if experiment.validation is None:
            self._save_model("last, since no images were held out for validation")
            return
        experiment.model.eval()
        moment = self._moment()
        weights = experiment.objective.weights(moment)
        sums: dict[str, float] = {}
        count = 0
        for number, batch in enumerate(in_order(experiment.validation, self._options.batch_size, experiment.device)):
            # The same noise at every epoch, so that figures differ by the model alone.
            noise = torch_generator(self._options.seed, "validation", number)
            losses = experiment.objective(batch, experiment.model(batch.images, noise), moment)
            for name, term in losses.terms.items():
                sums[name] = sums.get(name, 0.0) + float(term.to(self._precision).sum())
            count += len(batch)
        figures = {name: value / count for name, value in sums.items()}
        figures = {"total": sum(figures[name] * weight for name, weight in weights.items()), **figures}
        self._write_row("validation", figures, {})
        if self.state.best is None or figures["total"] < self.state.best:
            self.state.best, self.state.best_step = figures["total"], self.state.step
            self._save_model("best on the validation images", figures)

    def _save_model(self, which: str, figures: dict[str, float] | None = None) -> None:
        """The artifact, with where it came from."""
        model, recipe = self.experiment.model, self.experiment.recipe
        model.metadata = {
            "data": recipe.data.model_dump(mode="json", exclude={"dir"}),
            "training": {
                "recipe": recipe.title,
                "data": self.experiment.batches.split.describe(),
                "step": self.state.step,
                "which": which,
                "objective": recipe.objective,
                **({"validation": figures} if figures else {}),
            },
        }
        save(model, self.folder.model)

    def _checkpoint(self) -> None:
        self.state.sums = {name: float(value) for name, value in self._sums.items()}
        self.state.log_bytes = self.folder.metrics.stat().st_size
        save_checkpoint(
            self.folder.checkpoints, self.state, self.experiment.model, self.experiment.optimizer, self._options.keep
        )

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

    def _scalar(self, value: float) -> Tensor:
        return torch.tensor(value, dtype=self._precision, device=self.experiment.device)
