"""The loop: batches to losses to weights, watched, and ready to stop and continue at any step."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator

import torch

from convae.core.errors import TrainingError
from convae.core.files import truncate
from convae.core.memory import is_out_of_memory
from convae.core.types import Batch
from convae.training.distributed.ranks import stop_on_signals
from convae.training.loop.averaging import ExponentialMovingAverage
from convae.training.loop.freezing import FrozenParts
from convae.training.loop.health import DIVERGED, REMEDY, HealthMonitor, collapse, divergence, not_finite
from convae.training.loop.optimizer import build_optimizer
from convae.training.loop.precision import Precision, precision_warning
from convae.training.loop.recovery import ROLL_BACK_AFTER, Recovery
from convae.training.loop.running_means import RunningMeans
from convae.training.loop.train_step import TrainStep
from convae.training.recipe.plan import Stage
from convae.training.recipe.stage_objective import Clocks
from convae.training.run_folder.checkpoint import (
    Checkpoint,
    Machine,
    TrainingState,
    checkpoint_tensors,
    list_checkpoints,
    save_checkpoint,
)
from convae.training.run_folder.folder import RunFolder
from convae.training.run_folder.log import NOTE, Row, RunLog, TensorBoard
from convae.training.vae.experiment import Experiment, whole
from convae.training.vae.pictures import RunPictures
from convae.training.vae.saving import save_model
from convae.training.vae.validation import validate


class Callback:
    """Is told how a training goes on; a progress bar, say. Every method may be overridden, none has to be."""

    def on_train_start(self, trainer: Trainer) -> None:
        """Training begins, or goes on, at `trainer.state.step`."""

    def on_step_end(self, trainer: Trainer) -> None:
        """A step is done; `trainer.stop()` makes it the last."""

    def on_log(self, row: Row) -> None:
        """A row of figures was written."""

    def on_message(self, sentence: str) -> None:
        """Something happened that a person should know of."""

    def on_train_end(self, trainer: Trainer) -> None:
        """Training is over, done or stopped."""


class Trainer:
    """Trains the model of an experiment into a run folder.

    What step t does is a function of the recipe, the data and t alone, so a run that was stopped and resumed is the
    same as one that never stopped: bit for bit on a CPU, with the same number of threads and the same instruction set.

    Args:
        experiment: the objects of the run.
        folder: where everything is written.
        checkpoint: where to continue; None at the beginning.
        callback: is told how it goes on.
        note: a sentence that is written down before anything else.
    """

    def __init__(
        self,
        experiment: Experiment,
        folder: RunFolder,
        checkpoint: Checkpoint | None,
        callback: Callback,
        note: str | None = None,
    ) -> None:
        self.experiment = experiment
        self.folder = folder
        self._plan = experiment.plan
        self._callback = callback
        self._options = options = experiment.recipe.training
        self._per_epoch = experiment.batches.steps_per_epoch
        self._ranks = ranks = experiment.ranks
        self._recovery = Recovery(experiment, folder)
        self._log = RunLog(folder, self._per_epoch, ranks.is_main)
        self._ema = ExponentialMovingAverage(experiment.model, options.ema) if options.ema is not None else None
        self._pictures = RunPictures(experiment, folder)
        self._machine = Machine.here(experiment.device, ranks.count)
        self._values = math.prod(experiment.model.input_shape)
        self._rate_used = 0.0
        self._until = math.inf
        if checkpoint:
            self._first_notes: list[str | None] = [self._machine.changes(checkpoint.machine)]
        else:
            self._first_notes = self._beginning() if experiment.recipe.start else self._known()
        self._data_note = note
        self._first_notes.insert(0, note)
        self._begin(checkpoint)
        shows = options.tensorboard and ranks.is_main
        self._board = TensorBoard(folder.path / "tensorboard", self.state.step) if shows else None

    @property
    def stage(self) -> Stage:
        """The stage that is running, or was the last."""
        return self._plan.running(self.state.stage_starts)

    @property
    def total_steps(self) -> int:
        """Steps of the whole training; less than it said before when a plateau ended a stage."""
        return self.state.step if self.state.finished else self._plan.total(self.state.stage_starts)

    def stop(self) -> None:
        """Asks the training to end after the step that is running, with a checkpoint."""
        self._ranks.stop.requested = True

    @property
    def stopped(self) -> bool:
        """Whether training ended before its last step."""
        return not self.state.finished

    @property
    def out_of_time(self) -> bool:
        """Whether `training.minutes` are over."""
        return time.monotonic() >= self._until

    def fit(self) -> None:
        """Trains from the state's step to the last, or until asked to stop; a checkpoint is written at the end.

        Raises:
            TrainingError: the losses do not stay finite, or the memory does not suffice.
            OutputError: something cannot be written.
        """
        # Layers that draw (dropout) use torch's default generator, seeded for each step; the caller's is left alone.
        with stop_on_signals(self._ranks.stop), self._ranks.connected(), torch.random.fork_rng():
            self._callback.on_train_start(self)
            if slow := precision_warning(self._options.precision, self.experiment.device):
                self._callback.on_message(slow)
            for sentence in self._first_notes:
                self._note(sentence)
            if self._options.minutes is not None:
                self._until = time.monotonic() + 60 * self._options.minutes
            try:
                with self._memory():
                    while self.stopped and not self._ranks.should_stop(now=True):
                        self._frozen.train()
                        self._epoch()
            finally:
                self._callback.on_train_end(self)
                if self._board:
                    self._board.close()
            # A process that ended before the first has written would be taken for one that failed.
            self._ranks.gather(None)
        if self._ranks.is_main:
            self._log.tabulate()
        self.experiment.model.eval()

    def _beginning(self) -> list[str | None]:
        """Gives the model its first weights; what a person should know of them."""
        return [self._recovery.begin(), *self._known()]

    def _known(self) -> list[str | None]:
        """What is known of data and model before the first step."""
        return [*self.experiment.batches.split.notes, *self.experiment.notes, _untrained(self.experiment)]

    def _begin(self, checkpoint: Checkpoint | None) -> None:
        """Puts everything into the state of a checkpoint; without one, of the beginning, the model being new."""
        model, device = self.experiment.model, self.experiment.device
        self.state = checkpoint.state if checkpoint else TrainingState()
        self._log_window = RunningMeans(device, self.state.log_window)
        self._epoch_window = RunningMeans(device, self.state.epoch_window)
        self._health = HealthMonitor(device, self.state.skips, self._values)
        options = self._options
        self._precision = Precision(options.precision, device, self.state.scaling)
        self._train_step = TrainStep(
            model,
            options.seed,
            options.accumulate,
            self._precision,
            self._ranks,
            self._plan.temperature,
            options.sync_batch_norm,
        )
        self._optimizer = build_optimizer(self.stage.optimizer, model)
        if checkpoint:
            checkpoint.put_into(model, self._optimizer, self._ema)
        elif self._ema:
            self._ema.begin()
        self._freeze()

    def _freeze(self) -> None:
        """Freezes what the running stage freezes."""
        self._frozen = FrozenParts(self.experiment.model, self.stage.freeze, f"stage '{self.stage.name}': freeze")
        self._frozen.apply()
        if self._ema:
            self._ema.freeze(self._frozen.names)

    @contextlib.contextmanager
    def _memory(self) -> Iterator[None]:
        """Inside the block, a lack of memory is one sentence that says what to do.

        Raises:
            TrainingError: there is not enough memory.
        """
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            folder, size = self.folder.path, self.experiment.batches.batch_size
            kept = list_checkpoints(self.folder.checkpoints)
            raise TrainingError(
                f"out of memory in step {self.state.step}, with batches of {size} images: set training.accumulate or "
                f"training.checkpointing: true in {folder / 'recipe.yaml'}; then `convae train --resume {folder}` "
                f"continues from {kept[-1].name if kept else 'the beginning'}. `convae find-batch-size "
                f"{folder / 'recipe.yaml'}` finds the largest batch size for a new run"
            ) from error

    def _epoch(self) -> None:
        """The steps that are left of the running epoch or, if that is over before, of the running stage."""
        epoch, start = divmod(self.state.step, self._per_epoch)
        batches = self.experiment.batches
        began, waited, first = time.perf_counter(), batches.waited, self.state.step
        limit = self._plan.end(self.state.stage_starts)
        for batch in self.experiment.iterate(epoch, start):
            self._step(batch)
            step = self.state.step
            over = step % self._per_epoch == 0 or step == limit
            logs = step % self._options.log_every == 0 or over
            every = self._options.checkpoint_every
            planned = over or (every is not None and step % every == 0)
            if (logs or planned or self.experiment.device.type == "cpu") and self._rolled_back(planned):
                return
            if logs:
                self._log_training()
            if over:
                seconds, images = time.perf_counter() - began, (step - first) * batches.batch_size
                self._log.time(epoch, step - first, images, seconds, batches.waited - waited)
                self._pause(limit)
            self._callback.on_step_end(self)
            if self.out_of_time and self._ranks.is_main:
                self.stop()
            stops = self._ranks.should_stop()
            if stops and not over:
                self._leave()
            if stops or planned:
                self._checkpoint(planned)
            if stops or over:
                return

    def _step(self, batch: Batch) -> None:
        """One step of the optimiser."""
        state, stage = self.state, self.stage
        self._rate_used = self._plan.rate(state.stage_starts, state.step) * 0.5**state.lr_halvings
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate_used
        clip, largest = stage.optimizer.clip, self._health.largest_total()
        done = self._train_step(batch, stage.objective, self._clocks(), self._optimizer, clip, largest)
        if self._ema:
            self._ema.update(state.step)
        self._health.note(done, state.step)
        self._log_window.add(done.figures, done.skipped)
        self._epoch_window.add(done.figures, done.skipped)
        state.step += 1

    def _clocks(self) -> Clocks:
        return self._plan.clocks(self.state.stage_starts, self.state.step)

    def _averaged(self) -> contextlib.AbstractContextManager[None]:
        """Inside the block, the model has the weights that it is judged, shown and saved with."""
        return self._ema.in_place() if self._ema else contextlib.nullcontext()

    def _pause(self, limit: int) -> None:
        """What is done after an epoch, and after a stage, which the metrics may end here."""
        with self._averaged():
            shown = whole(self.experiment)
            metrics = self._validate(shown)
            ends = self.state.step >= limit or self._at_plateau(metrics)
            self._show(shown, final=ends)
        self._epoch_window.clear()
        if ends:
            self._advance()
        self._frozen.train()

    def _leave(self) -> None:
        """What is done in the middle of an epoch that is not trained to its end now."""
        is_out_of_time = self._ranks.broadcast(lambda: self.out_of_time)
        with self._averaged():
            shown = whole(self.experiment)
            if is_out_of_time:
                self._log_training()
                self._validate(shown)
                self._show(shown, final=True)
            else:
                save_model(shown, self.folder.last, self.state, "last")
        self._frozen.train()

    def _show(self, shown: Experiment, final: bool) -> None:
        """Draws the pictures, if it is their turn."""
        if self._ranks.is_main:
            self._note(self._pictures.save(shown, self.state, final=final))

    def _validate(self, shown: Experiment) -> dict[str, float]:
        """A row of metrics on the validation images; the last model is saved and, where this is it, the best.

        Args:
            shown: with the model to save.

        Returns:
            The figures by which the stage is judged, with the total under the weights of its end: totals under
            weights that change cannot be compared. Empty where no step gave a figure.
        """
        if self._ranks.is_main:
            self.folder.check()
        state, goal = self.state, self.stage.objective
        at_end = self._plan.clocks(state.stage_starts, self._plan.end(state.stage_starts))
        if self.experiment.validation is None:
            save_model(shown, self.folder.last, state, "last")
            figures = self._epoch_window.read()
            terms = {name: figures[name] for name in goal.units if name in figures}
            if figures and not self._diverged(figures["total"], terms):
                save_model(shown, self.folder.model, state, "last, since no images were held out for validation")
            return {**figures, "total": goal.total(figures, at_end)} if figures else {}
        found = validate(self.experiment, goal, self._clocks())
        judged = {"total": goal.total(found.figures, at_end), **found.figures}
        row = {"total": goal.total(found.figures, self._clocks()), **found.figures, "total_at_end": judged["total"]}
        accuracy = {} if found.accuracy is None else {"accuracy": found.accuracy}
        units = {**accuracy, "active_units": found.active, "kl_per_unit": found.kl_per_unit}
        if found.perplexity is not None:
            units |= {"perplexity": found.perplexity, "codes_used": found.codes}
        self._write("validation", {**row, **units})
        sentence = collapse(found)
        state.collapse_streak = state.collapse_streak + 1 if sentence else 0
        if sentence and state.collapse_streak == 2:  # once may be the beginning; more often would be a nuisance
            self._note(sentence)
        save_model(shown, self.folder.last, state, "last", judged)
        if not self._diverged(row["total"], found.figures) and (state.best is None or judged["total"] < state.best):
            state.best, state.best_step = judged["total"], state.step
            save_model(shown, self.folder.model, state, "best on the validation images", judged)
        return judged

    def _diverged(self, total: float, terms: dict[str, float]) -> bool:
        """Whether a model makes no sense, which is told the first time."""
        state = self.state
        sentence = divergence(total, terms, self._health.read().limit(self._values, DIVERGED), state.step)
        state.divergence_streak = state.divergence_streak + 1 if sentence else 0
        if sentence and state.divergence_streak == 1:
            self._note(sentence)
        return sentence is not None

    def _at_plateau(self, figures: dict[str, float]) -> bool:
        """Whether the figure that the stage watches has been without progress for so long that the stage is over."""
        rule, state = self.stage.plateau, self.state
        if rule is None or self._clocks().stage.epoch < rule.after:
            return False
        figure = figures.get(rule.of, math.inf)
        if state.plateau_best is None or figure < state.plateau_best - rule.change * abs(state.plateau_best):
            state.plateau_best, state.plateau_wait = figure, 0
        else:
            state.plateau_wait += 1
        return state.plateau_wait >= rule.patience

    def _advance(self) -> None:
        """From a stage that is over to the next, if there is one."""
        self._log_training()
        state = self.state
        if len(state.stage_starts) == len(self._plan.stages):
            state.finished = True
            return
        state.stage_starts.append(state.step)
        state.plateau_best, state.plateau_wait, state.best, state.best_step = None, 0, None, None
        if self.stage.fresh:
            self._optimizer = build_optimizer(self.stage.optimizer, self.experiment.model)
        self._freeze()

    def _rolled_back(self, planned: bool) -> bool:
        """Looks after steps that were skipped: names where they went wrong, goes back after many in a row.

        Args:
            planned: whether a checkpoint comes next, of a model whose weights have to be finite.
        """
        state = self.state
        skips = state.skips = self._health.read()
        reason = None
        if skips.row and skips.first != state.last_reported_skip:
            state.last_reported_skip = skips.first
            self._note(self._recovery.sentence(state, self._train_step))
        if skips.row >= ROLL_BACK_AFTER:
            reason = f"{skips.row} steps in a row from step {skips.first} on were skipped"
        elif planned and (names := list(filter(None, self._ranks.gather(not_finite(self.experiment.model))))):
            reason = f"'{names[0]}' holds values that are not finite after step {state.step}"
        if reason is None:
            return False
        checkpoint = self._recovery.checkpoint(state, reason)
        sentences = [self._data_note, *([] if checkpoint else self._beginning())]
        self._begin(checkpoint)
        self.state.lr_halvings = state.lr_halvings + 1
        if self._ranks.is_main:
            truncate(self.folder.metrics, self.state.log_bytes)
        self._pictures.curves.forget()
        for sentence in sentences:
            self._note(sentence)
        self._note(
            f"{reason}: went back to step {self.state.step}, with the learning rate divided by "
            f"{2**self.state.lr_halvings}; if it happens again, {REMEDY}"
        )
        return True

    def _write(self, split: str, content: Row) -> None:
        """A row of figures, to all who want it."""
        row = self._log.write(split, self.state.step, content)
        self._callback.on_log(row)
        if self._board:
            self._board.write(row)

    def _note(self, sentence: str | None) -> None:
        if sentence is None:
            return
        self._log.write(NOTE, self.state.step, {"note": sentence})
        self._callback.on_message(sentence)

    def _log_training(self) -> None:
        """A row with the means since the last one, if a step was done since."""
        figures = self._log_window.read()
        self._log_window.clear()
        if figures:
            row = {**figures, "lr": self._rate_used, "skipped": self._health.read().count}
            if self._precision.scale:
                row["loss_scale"] = self._precision.scale.read().factor
            self._write("train", row)

    def _checkpoint(self, planned: bool) -> None:
        state = self.state
        state.log_window, state.epoch_window = self._log_window.sums(), self._epoch_window.sums()
        state.skips = self._health.read()
        if self._precision.scale:
            state.scaling = self._precision.scale.read()
        tensors = checkpoint_tensors(self.experiment.model, self._optimizer, self._ema)
        if self._ranks.is_main:
            self.folder.check()
            state.log_bytes = self._log.sync()
            save_checkpoint(
                self.folder.checkpoints,
                state,
                tensors,
                recipe=self.experiment.recipe.model_dump(mode="json"),
                machine=self._machine,
                planned=planned,
                keep=self._options.keep,
            )


def _untrained(experiment: Experiment) -> str | None:
    """A sentence on a classifier that no stage trains."""
    if experiment.model.classifier is None:
        return None
    if any("classification" in stage.objective.units for stage in experiment.plan.stages):
        return None
    return "the classifier is not trained: add objective.classification, or leave model.classifier out"
