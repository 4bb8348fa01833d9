"""Going back: where values stopped being finite, and the state from which a run goes on after many such steps."""

from __future__ import annotations

import contextlib

from convae.core.errors import ArtifactError, TrainingError
from convae.model.build import build
from convae.training.checkpoint import (
    Checkpoint,
    TrainingState,
    is_planned,
    read_checkpoint,
    read_together,
    remove_checkpoint,
    steps,
)
from convae.training.experiment import Experiment
from convae.training.health import locate
from convae.training.run_folder import RunFolder
from convae.training.sharding import load_whole
from convae.training.stepping import Stepper

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

    def sentence(self, state: TrainingState, stepper: Stepper) -> str:
        """On the first step of the row that was skipped: where its values stop being finite."""
        experiment, step = self._experiment, state.skips.first
        epoch, start = divmod(step, experiment.batches.steps_per_epoch)
        batch = next(iter(experiment.iterate(epoch, start)))
        clocks = experiment.plan.clocks(state.began, max(step, state.began[-1]))
        objective = experiment.plan.running(state.began).objective
        places = experiment.ranks.gather(locate(experiment.model, stepper, batch, objective, clocks))
        place = next(filter(None, places), "nowhere when it is run again")
        return f"step {step} was skipped: values that are not finite begin in {place}"

    def checkpoint(self, state: TrainingState) -> Checkpoint | None:
        """The last checkpoint before the row of skipped steps; None for the beginning, where the model is put back to.

        Raises:
            TrainingError: going back was tried too often.
        """
        experiment = self._experiment
        if state.halvings >= MOST_ROLLBACKS:
            hint = "training.precision: float32, " if experiment.recipe.training.precision == "fp16" else ""
            raise TrainingError(
                f"{self.reason(state)}, and going back {MOST_ROLLBACKS} times to half the learning rate did not help: "
                f"try a smaller training.optimizer.lr, {hint}set training.optimizer.clip, or look at the notes in "
                f"{self._folder.metrics}"
            )
        found = read_together(experiment.ranks, self._before_skips)
        if found is None:
            seed = experiment.recipe.training.seed
            load_whole(experiment.model, build(experiment.recipe.model, seed=seed).state_dict())
        return found

    @staticmethod
    def reason(state: TrainingState) -> str:
        """Why a run goes back."""
        return f"{state.skips.row} steps in a row from step {state.skips.first} on were not finite"

    def _before_skips(self) -> Checkpoint | None:
        """The last checkpoint before a row of skipped steps; later ones are removed, since the log will not reach them.

        Those that were written because somebody stopped the run are passed over, so that it makes no difference.
        """
        for path in reversed(steps(self._folder.checkpoints)):
            with contextlib.suppress(ArtifactError):
                checkpoint = read_checkpoint(path)
                if is_planned(path) and not checkpoint.state.skips.row:
                    return checkpoint
            remove_checkpoint(path)
        return None
