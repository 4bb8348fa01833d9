"""The model that a run gives, as an artifact that says where it came from."""

from __future__ import annotations

from convae.model.artifact import save
from convae.training.checkpoint import TrainingState
from convae.training.experiment import Experiment
from convae.training.run_folder import RunFolder


def keep_model(
    experiment: Experiment,
    folder: RunFolder,
    state: TrainingState,
    which: str,
    figures: dict[str, float] | None = None,
) -> None:
    """Writes the model in the place of the one that the run gave before, in the first process alone.

    Args:
        experiment: whose model it is.
        folder: of the run.
        state: how far the run is.
        which: of all models of the run it is, in words.
        figures: what it reaches on the validation images.
    """
    if not experiment.ranks.first:
        return
    model, recipe, names = experiment.model, experiment.recipe, experiment.batches.split.classes
    model.metadata = {
        **({"classes": list(names)} if names else {}),
        "data": recipe.data.model_dump(mode="json", exclude={"dir"}),
        "training": {
            "recipe": recipe.title,
            "data": experiment.batches.split.describe(),
            "step": state.step,
            "stage": experiment.plan.running(state.began).name,
            "which": which,
            "objective": recipe.objective,
            **({"validation": figures} if figures else {}),
        },
    }
    save(model, folder.model)
