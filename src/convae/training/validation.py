"""The figures of a model on images that it does not train on: exact means, the same noise every time."""

from __future__ import annotations

import torch

from convae.core.random import torch_generator
from convae.data import in_order
from convae.training.experiment import Experiment
from convae.training.stage_objective import Clocks, StageObjective


@torch.no_grad()
def validate(experiment: Experiment, objective: StageObjective, clocks: Clocks) -> dict[str, float]:
    """The mean of each term over the validation images, without its weight, in its own unit.

    The model is left in evaluation mode.
    """
    split, options, device = experiment.validation, experiment.recipe.training, experiment.device
    assert split is not None  # nothing is validated without images
    precision = torch.float32 if device.type == "mps" else torch.float64
    experiment.model.eval()
    sums: dict[str, float] = {}
    for number, batch in enumerate(in_order(split, options.batch_size, device)):
        # The same noise at every epoch, so that figures differ by the model alone.
        noise = torch_generator(options.seed, "validation", number)
        losses = objective(batch, experiment.model(batch.images, noise), clocks)
        for name, term in losses.terms.items():
            sums[name] = sums.get(name, 0.0) + float(term.to(precision).sum())
    return {name: value / len(split) for name, value in sums.items()}
