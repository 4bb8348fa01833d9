"""The training loop, with checkpoints at any step."""

from __future__ import annotations

import math
import time

import torch

from convae.core.types import Batch
from convae.training.distributed import stop_on_signals
from convae.training.loggers.base import build_loggers
from convae.training.loop.checkpoint import Checkpoint, Machine, collect_state, save_checkpoint
from convae.training.loop.counters import Counters, RunningMeans
from convae.training.loop.engine import Engine
from convae.training.loop.health import REMEDY, ROLL_BACK_AFTER, HealthMonitor, ModelSelection, not_finite
from convae.training.loop.log import NOTE, Row, RunLog, RunPictures
from convae.training.loop.numerics import precision_warning
from convae.training.loop.recovery import Recovery, explain_out_of_memory
from convae.training.loop.task import Stateful, Task
from convae.training.recipe.plan import Stage
from convae.training.run_folder import RunFolder


class Callback:
    """Callbacks of a training, such as a progress bar; override any of the methods."""

    def on_train_start(self, trainer: Trainer) -> None:
        """Called at the start of training, or when it continues, at `trainer.progress.step`."""

    def on_step_end(self, trainer: Trainer) -> None:
        """Called after each step; `trainer.stop()` makes it the last."""

    def on_log(self, row: Row) -> None:
        """Called for each row of metrics."""

    def on_message(self, sentence: str) -> None:
        """Called with notes and warnings."""

    def on_train_end(self, trainer: Trainer) -> None:
        """Called at the end of training, finished or stopped."""


class Trainer:
    """Trains a task into a run folder.

    Step t is a pure function of the task, its data and t, so that a resumed run equals an uninterrupted one: bit for
    bit on a CPU with the same number of threads and instruction set.

    Args:
        task: the task.
        folder: run folder.
        checkpoint: checkpoint to continue from; None for a new run.
        callback: callback.
        note: a note to log first.

    Attributes:
        progress: progress of the training.
        engine: updates of the current stage, with optimizers and averaged weights.
    """

    def __init__(
        self,
        task: Task,
        folder: RunFolder,
        checkpoint: Checkpoint | None = None,
        callback: Callback | None = None,
        note: str | None = None,
    ) -> None:
        self.task, self.folder = task, folder
        self._callback = callback or Callback()
        self._options, self._plan, self._ranks = task.options, task.plan, task.ranks
        self._per_epoch = task.batches.steps_per_epoch
        self._recovery = Recovery(task, folder)
        self._pictures = RunPictures(folder, task)
        self._machine = Machine.here(task.device, self._ranks.count)
        self._until = math.inf
        self._data_note = note
        self._initial = task.snapshot()
        if checkpoint:
            self._first_notes = [note, self._machine.changes(checkpoint.machine)]
        else:
            self._first_notes = [note, *task.starts(folder.path), *task.notes]
        self._begin(checkpoint)
        self._log = RunLog(folder, self._per_epoch, self._ranks.is_main, build_loggers(self._options.loggers))

    @property
    def stage(self) -> Stage:
        """The current or last stage."""
        return self._plan.current_stage(self.progress.stage_starts)

    @property
    def total_steps(self) -> int:
        """Steps of the training; decreases when a plateau ends a stage."""
        return self.progress.step if self.progress.finished else self._plan.total_steps(self.progress.stage_starts)

    def stop(self) -> None:
        """Requests a stop after the current step, with a checkpoint."""
        self._ranks.stop.requested = True

    @property
    def stopped(self) -> bool:
        """Whether training stopped before its last step."""
        return not self.progress.finished

    @property
    def out_of_time(self) -> bool:
        """Whether the limit `training.minutes` has been reached."""
        return time.monotonic() >= self._until

    def fit(self) -> None:
        """Trains to the last step, or until a stop is requested; a checkpoint is written at the end.

        Raises:
            TrainingError: non-finite losses after all roll-backs, or not enough memory.
            OutputError: a file cannot be written.
        """
        # Random layers use torch's default generator, seeded for each step; the state of the caller's is restored.
        with stop_on_signals(self._ranks.stop), self._ranks.connected(), torch.random.fork_rng():
            self._callback.on_train_start(self)
            self._log.start(self.task.title, self.progress.step)
            if slow := precision_warning(self._options.precision, self.task.device):
                self._callback.on_message(slow)
            for sentence in self._first_notes:
                self._note(sentence)
            if self._options.minutes is not None:
                self._until = time.monotonic() + 60 * self._options.minutes
            try:
                with explain_out_of_memory(self.task, self.folder, self.progress):
                    while self.stopped and not self._ranks.should_stop(now=True):
                        self.engine.train()
                        self._epoch()
            finally:
                self._callback.on_train_end(self)
                self._log.close()
            # A process that ends before the main one has written would be taken for a failed one.
            self._ranks.gather(None)
        if self._ranks.is_main:
            self._log.tabulate()
        self.task.main.eval()

    def _begin(self, checkpoint: Checkpoint | None) -> None:
        """Creates the `Stateful`s, and restores them from a checkpoint."""
        task, device = self.task, self.task.device
        self.progress = checkpoint.progress if checkpoint else Counters()
        self._log_window, self._epoch_window = RunningMeans(device), RunningMeans(device)
        self._health = HealthMonitor(device, math.prod(task.batches.shape))
        self.engine = Engine(task, self.stage)
        if checkpoint:
            checkpoint.restore(self._statefuls())
        self._selection = ModelSelection(task, self.folder, self.progress, self._health, self._write, self._note)
        self.engine.freeze()

    def _statefuls(self) -> dict[str, Stateful]:
        """The `Stateful`s by their names in checkpoints."""
        return {
            "progress": self.progress,
            "health": self._health,
            "log_window": self._log_window,
            "epoch_window": self._epoch_window,
            **self.engine.statefuls(),
        }

    def _epoch(self) -> None:
        """Runs the remaining steps of the epoch, or of the stage if it ends before."""
        task, progress = self.task, self.progress
        epoch, start = divmod(progress.step, self._per_epoch)
        batches = task.batches
        begin, waited, first = time.perf_counter(), batches.waited, progress.step
        limit = self._plan.stage_end(progress.stage_starts)
        for batch in batches.iterate(epoch, start, task.device, self._plan.augmentation_strength(epoch)):
            self._step(batch)
            step = progress.step
            over = step % self._per_epoch == 0 or step == limit
            logs = step % self._options.log_every == 0 or over
            every = self._options.checkpoint_every
            planned = over or (every is not None and step % every == 0)
            if (logs or planned or task.device.type == "cpu") and self._rolled_back(planned):
                return
            if logs:
                self._log_training()
            if over:
                seconds, images = time.perf_counter() - begin, (step - first) * batches.batch_size
                self._log.time(epoch, step - first, images, seconds, batches.waited - waited)
                self._end_epoch(limit)
            self._callback.on_step_end(self)
            if self.out_of_time and self._ranks.is_main:
                self.stop()
            stops = self._ranks.should_stop()
            if stops and not over:
                self._leave_epoch()
            if stops or planned:
                self._save_checkpoint(planned)
            if stops or over:
                return

    def _step(self, batch: Batch) -> None:
        """Runs one training step: every update of the stage."""
        progress = self.progress
        clocks = self._plan.clocks(progress.stage_starts, progress.step)
        done = self.engine.step(batch, clocks, 0.5**progress.lr_halvings, self._health.largest_total())
        self._health.note(done, progress.step)
        self._log_window.add(done.metrics, done.skipped)
        self._epoch_window.add(done.metrics, done.skipped)
        progress.step += 1

    def _end_epoch(self, limit: int) -> None:
        """Validates, saves and draws after an epoch; may end the stage."""
        with self.engine.averaged():
            shown = self.task.gathered()
            metrics = self._selection.judge(shown, self.stage, self._epoch_window)
            ends = self.progress.step >= limit or self._selection.is_at_plateau(self.stage, metrics)
            self._show(shown, final=ends)
        self._epoch_window.clear()
        if ends:
            self._end_stage()
        self.engine.train()

    def _leave_epoch(self) -> None:
        """Logs and saves a checkpoint in the middle of an epoch, when training stops."""
        is_out_of_time = self._ranks.broadcast(lambda: self.out_of_time)
        with self.engine.averaged():
            shown = self.task.gathered()
            if is_out_of_time:
                self._log_training()
                self._selection.judge(shown, self.stage, self._epoch_window)
                self._show(shown, final=True)
            else:
                self._selection.save(shown, "last")
        self.engine.train()

    def _show(self, shown: Task, final: bool) -> None:
        """Draws the pictures, at the configured interval."""
        if self._ranks.is_main:
            self._note(self._pictures.save(shown, self.progress, final=final))
            self._log.send_pictures(self.progress.step)

    def _end_stage(self) -> None:
        """Continues with the next stage, if there is one."""
        self._log_training()
        if len(self.progress.stage_starts) == len(self._plan.stages):
            self.progress.finished = True
            return
        self.progress.start_stage()
        self.engine.enter(self.stage)
        self.engine.freeze()

    def _rolled_back(self, planned: bool) -> bool:
        """Handles skipped steps: reports their origin, and rolls back after many consecutive ones.

        Args:
            planned: whether a checkpoint follows, which requires finite weights.
        """
        progress, skips, reason = self.progress, self._health.read(), None
        if skips.row and skips.first != progress.last_reported_skip:
            progress.last_reported_skip = skips.first
            self._note(self._recovery.diagnose(progress, skips, self.engine))
        if skips.row >= ROLL_BACK_AFTER:
            reason = f"{skips.row} steps in a row from step {skips.first} on were skipped"
        elif planned and (names := list(filter(None, self._ranks.gather(not_finite(self.task.main))))):
            reason = f"'{names[0]}' has non-finite values after step {progress.step}"
        if reason is None:
            return False
        checkpoint = self._recovery.checkpoint(progress, reason)
        again = [] if checkpoint else [*self.task.reset(self.folder.path, self._initial), *self.task.notes]
        self._begin(checkpoint)
        self.progress.lr_halvings = progress.lr_halvings + 1
        if self._ranks.is_main:
            self.folder.truncate_log(self.progress.log_bytes)
        self._pictures.curves.forget()
        for sentence in (self._data_note, *again):
            self._note(sentence)
        self._note(
            f"{reason}: went back to step {self.progress.step}, with the learning rate divided by "
            f"{2**self.progress.lr_halvings}. If it happens again, {REMEDY}"
        )
        return True

    def _write(self, split: str, content: Row) -> None:
        """Sends a row of metrics to the log and the callback."""
        self._callback.on_log(self._log.write(split, self.progress.step, content))

    def _note(self, sentence: str | None) -> None:
        if sentence is not None:
            self._log.write(NOTE, self.progress.step, {"note": sentence})
            self._callback.on_message(sentence)

    def _log_training(self) -> None:
        """Writes a row of means since the last one, if there were steps."""
        metrics = self._log_window.read()
        self._log_window.clear()
        if metrics:
            scale = self.engine.loss_scale
            row = {**metrics, "lr": self.engine.rate, "skipped": self._health.read().count}
            self._write("train", row if scale is None else {**row, "loss_scale": scale})

    def _save_checkpoint(self, planned: bool) -> None:
        values, tensors = collect_state(self._statefuls())
        if self._ranks.is_main:
            self.folder.check()
            # Only now the size of the log at this step is known.
            self.progress.log_bytes = values["progress"]["log_bytes"] = self._log.sync()
            save_checkpoint(
                self.folder.checkpoints,
                self.progress.step,
                values,
                tensors,
                recipe=self.task.description(),
                machine=self._machine,
                planned=planned,
                keep=self._options.keep,
            )
