"""Going back: where values stopped being finite, and the state from which a run goes on after many such steps."""

from __future__ import annotations

import contextlib
import math

from torch import Tensor

from convae.core.errors import ArtifactError, TrainingError
from convae.training.distributed.sharding import load_full_state
from convae.training.loop.health import ABSURD, REMEDY, locate
from convae.training.loop.train_step import TrainStep
from convae.training.run_folder.checkpoint import (
    Checkpoint,
    TrainingState,
    is_planned,
    list_checkpoints,
    read_checkpoint,
    read_together,
    remove_checkpoint,
)
from convae.training.run_folder.folder import RunFolder
from convae.training.vae.experiment import Experiment
from convae.training.vae.start import initial_weights

ROLL_BACK_AFTER = 10
"""Steps in a row that were not finite after which the weights themselves are taken to be the reason."""
MOST_ROLLBACKS = 6
"""After more of them the training gives up: the learning rate is a sixty-fourth by then."""


class Recovery:
    """What is done about steps of a run that were skipped because something in them was not finite.

    Args:
        experiment: the objects of the run.
        folder: its folder.
    """

    def __init__(self, experiment: Experiment, folder: RunFolder) -> None:
        self._experiment = experiment
        self._folder = folder

    def sentence(self, state: TrainingState, train_step: TrainStep) -> str:
        """On the first step of the row that was skipped: where its values stop being finite."""
        experiment, step = self._experiment, state.skips.first
        epoch, start = divmod(step, experiment.batches.steps_per_epoch)
        batch = next(iter(experiment.iterate(epoch, start)))
        clocks = experiment.plan.clocks(state.stage_starts, max(step, state.stage_starts[-1]))
        objective = experiment.plan.running(state.stage_starts).objective
        largest = state.skips.limit(math.prod(experiment.model.input_shape), ABSURD)
        found = experiment.ranks.gather(locate(experiment.model, train_step, batch, objective, clocks, largest))
        reason = next(filter(None, found), "its values were not finite, but are when it is run again")
        return f"step {step} was skipped: {reason}"

    def checkpoint(self, state: TrainingState, reason: str) -> Checkpoint | None:
        """The last checkpoint before what went wrong; None for the beginning.

        Args:
            state: how far the run is.
            reason: why it goes back.

        Raises:
            TrainingError: going back was tried too often.
        """
        experiment = self._experiment
        if state.lr_halvings >= MOST_ROLLBACKS:
            hint = ", or set training.precision: float32" if experiment.recipe.training.precision == "fp16" else ""
            raise TrainingError(
                f"{reason}, and going back {MOST_ROLLBACKS} times to half the learning rate did not help: "
                f"{REMEDY}{hint}. The notes in {self._folder.metrics} say where it began"
            )
        return read_together(experiment.ranks, self._before_skips)

    def begin(self) -> str | None:
        """Gives the model the weights that it has before the first step.

        Returns:
            A sentence on a saved model that they come from.

        Raises:
            ArtifactError: that model is missing or damaged.
        """
        experiment, sentences = self._experiment, list[str | None]()

        def read() -> dict[str, Tensor]:
            if not experiment.ranks.is_main:
                return {}
            tensors, sentence = initial_weights(experiment.recipe, self._folder, experiment.batches.batch_size)
            sentences.append(sentence)
            return tensors

        load_full_state(experiment.model, experiment.ranks.broadcast_tensors(experiment.ranks.run_on_all(read)))
        return sentences[0] if sentences else None

    def _before_skips(self) -> Checkpoint | None:
        """The last checkpoint before a row of skipped steps; later ones are removed, since the log will not reach them.

        Those that were written because somebody stopped the run are passed over, so that it makes no difference.
        """
        for path in reversed(list_checkpoints(self._folder.checkpoints)):
            with contextlib.suppress(ArtifactError):
                checkpoint = read_checkpoint(path)
                if is_planned(path) and not checkpoint.state.skips.row:
                    return checkpoint
            remove_checkpoint(path)
        return None
