"""The models that a run gives, the best and the last, as artifacts that say where they came from."""

from __future__ import annotations

from pathlib import Path

from convae.model.artifact import save
from convae.model.provenance import Provenance, SplitFacts, TrainingFacts
from convae.training.loop.health import not_finite
from convae.training.run_folder.checkpoint import TrainingState
from convae.training.vae.experiment import Experiment


def save_model(
    experiment: Experiment,
    path: Path,
    state: TrainingState,
    which: str,
    figures: dict[str, float] | None = None,
) -> None:
    """Writes the model in the place of the one that was there before, in the first process alone.

    Args:
        experiment: whose model it is.
        path: of the artifact.
        state: how far the run is.
        which: of all models of the run it is, in words.
        figures: what it reaches on the validation images.
    """
    # What is not finite is told where it is watched; the model that was kept before is worth more.
    if not experiment.ranks.is_main or not_finite(experiment.model) is not None:
        return
    model, recipe, names = experiment.model, experiment.recipe, experiment.batches.split.classes
    splits = experiment.data_set.split_facts.items()
    model.provenance = Provenance(
        classes=tuple(names) if names else None,
        data=recipe.data.model_dump(mode="json", exclude={"dir"}),
        splits={name: SplitFacts(**facts) for name, facts in splits},
        training=TrainingFacts(
            recipe=recipe.title,
            data=SplitFacts(**experiment.batches.split.describe()),
            step=state.step,
            stage=experiment.plan.running(state.stage_starts).name,
            which=which,
            objective=recipe.objective,
            validation=figures or {},
            start=None if recipe.start is None else recipe.start.sha256,
        ),
    )
    save(model, path)
