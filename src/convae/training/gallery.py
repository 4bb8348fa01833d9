"""Pictures of a run as it goes: reconstructions, samples and the curves."""

from __future__ import annotations

import torch

from convae.core.random import torch_generator
from convae.pictures.curves import curves
from convae.pictures.grid import grid, pairs
from convae.pictures.save import save
from convae.training.checkpoint import TrainingState
from convae.training.experiment import Experiment
from convae.training.run_folder import RunFolder

SHOWN = 16
"""Images in a picture of reconstructions."""
SAMPLED = 64
"""Images in a picture of samples."""


class Gallery:
    """Hangs pictures of an experiment into its run folder.

    Args:
        experiment: whose model is shown.
        folder: whose `pictures` are written.
    """

    def __init__(self, experiment: Experiment, folder: RunFolder) -> None:
        self._experiment = experiment
        self._folder = folder
        self._every = experiment.recipe.training.pictures_every

    def hang(self, state: TrainingState, final: bool) -> None:
        """Writes the pictures of an epoch's end, if it is their turn.

        Args:
            state: how far the training is.
            final: whether a stage is over; then it always is their turn, unless there are to be none.
        """
        epoch = -(-state.step // self._experiment.batches.steps_per_epoch)
        if not self._every or (epoch % self._every and not final):
            return
        name = f"epoch-{epoch:04d}"
        model = self._experiment.model.eval()
        split = self._experiment.validation or self._experiment.batches.split
        images = split.images(list(range(min(SHOWN, len(split))))).to(self._experiment.device).float() / 255
        with torch.no_grad():
            decoded = model.decode(model.encode(images).mean).mean
        generator = torch_generator(self._experiment.recipe.training.seed, "pictures")
        sampled = model.sample(SAMPLED, generator)
        pictures = self._folder.pictures
        title = f"{split.name} images, epoch {epoch}"
        save(pairs(images.cpu(), decoded.cpu(), title=title), pictures / f"{name}-reconstructions.png")
        save(grid(sampled.cpu(), title=f"samples, epoch {epoch}"), pictures / f"{name}-samples.png")
        self.curves(state)

    def curves(self, state: TrainingState) -> None:
        """Draws the figures of the whole run so far."""
        rows = self._folder.rows()
        plan = self._experiment.plan
        units = {"total": "nats per image"}
        units.update({name: f"{unit} per image" for name, unit in plan.units().items()})
        names = [stage.name for stage in plan.stages[: len(state.began)]]
        begins = [(begin / plan.steps_per_epoch, name) for begin, name in zip(state.began, names, strict=True)]
        panels: dict[str, dict[str, tuple[list[float], list[float]]]] = {}
        for name in units:
            for split in ("train", "validation"):
                points = [(row["epoch"], row[name]) for row in rows if row["split"] == split and name in row]
                if points:
                    panels.setdefault(name, {})[split] = ([x for x, _ in points], [y for _, y in points])
        stages = begins if len(plan.stages) > 1 else []
        figure = curves(panels, x_label="epoch", units=units, title=self._experiment.recipe.title, stages=stages)
        save(figure, self._folder.pictures / "curves.png")
