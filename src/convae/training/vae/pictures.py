"""Pictures of a run as it goes: reconstructions, interpolations, samples and the curves."""

from __future__ import annotations

import torch
from PIL.Image import Image

from convae.core.errors import DataError
from convae.core.names import class_names
from convae.core.random import torch_generator
from convae.data.batches import evenly_spaced, in_order
from convae.model.vae import VAE
from convae.pictures.grid import grid, pairs
from convae.pictures.save import save
from convae.training.run_folder.checkpoint import TrainingState
from convae.training.run_folder.curves import Curves
from convae.training.run_folder.folder import RunFolder
from convae.training.vae.experiment import Experiment

SHOWN = 16
"""Images in a picture of reconstructions."""
SAMPLED = 64
"""Images in a picture of samples."""
WAYS = 4
"""Ways from one image to another in a picture of interpolations."""
WAY_STEPS = 9
"""Images of such a way, both ends among them."""


class RunPictures:
    """Hangs pictures of an experiment into its run folder.

    Args:
        experiment: the objects of the run.
        folder: whose `pictures` are written.
    """

    def __init__(self, experiment: Experiment, folder: RunFolder) -> None:
        self._folder = folder
        self._every = experiment.recipe.training.pictures_every
        self.curves = Curves(folder, experiment.plan, experiment.recipe.title)

    def save(self, shown: Experiment, state: TrainingState, final: bool) -> str | None:
        """Writes the pictures of an epoch's end, if it is their turn.

        Args:
            shown: with the model to show.
            state: how far the training is.
            final: whether a stage is over; then it always is their turn, unless there are to be none.

        Returns:
            Why they could not be drawn, if that is so: a model that diverged gives no images.
        """
        epoch = -(-state.step // shown.batches.steps_per_epoch)
        if not self._every or (epoch % self._every and not final):
            return None
        try:
            self._images(shown, epoch)
        except DataError as error:
            return f"the pictures of epoch {epoch} cannot be drawn: {error}"
        finally:
            figure = self.curves.draw(state)
            if figure is not None:
                save(figure, self._folder.pictures / "curves.png")
        return None

    @torch.no_grad()
    def _images(self, shown: Experiment, epoch: int) -> None:
        """Reconstructions, ways from one image to another, and samples."""
        model = shown.model.eval()
        split = shown.validation or shown.batches.split
        batch = next(in_order(split, SHOWN, shown.device, evenly_spaced(len(split), SHOWN)))
        latents = model.encode(batch.images, batch.labels).mean
        decoded = model.decode(latents, batch.labels).mean
        generator = torch_generator(shown.recipe.training.seed, "pictures")
        sampled = model.sample(SAMPLED, generator)
        name = shown.recipe.title
        title = f"{name}: {split.name} images, epoch {epoch}"
        self._save(pairs(batch.images.cpu(), decoded.cpu(), title=title), f"epoch-{epoch:04d}-reconstructions.png")
        captions = _captions(model, split.classes)
        sheet = grid(sampled.cpu(), captions=captions, title=f"{name}: samples, epoch {epoch}")
        self._save(sheet, f"epoch-{epoch:04d}-samples.png")
        ways = min(WAYS, len(latents) // 2)
        if ways:
            ends = latents[: 2 * ways].reshape(ways, 2, *latents.shape[1:])
            shares = torch.linspace(0, 1, WAY_STEPS, device=latents.device)
            way = torch.stack([torch.lerp(ends[:, 0], ends[:, 1], share) for share in shares], dim=1)
            # A conditional model decodes a whole path as the class of its first image, so that it ends at no image.
            kinds = None if batch.labels is None else batch.labels[: 2 * ways : 2].repeat_interleave(WAY_STEPS)
            # Between two codes there is no latent that the decoder was trained on.
            between = model.decode(model.bottleneck.quantize(way.flatten(0, 1)), kinds).mean
            title = f"{name}: from one {split.name} image to another, epoch {epoch}"
            if model.condition is not None:
                title = f"{name}: from {split.name} images towards others, drawn as their own class, epoch {epoch}"
            self._save(grid(between.cpu(), columns=WAY_STEPS, title=title), f"epoch-{epoch:04d}-interpolations.png")

    def _save(self, picture: Image, name: str) -> None:
        save(picture, self._folder.pictures / name)


def _captions(model: VAE, names: tuple[str, ...] | None) -> list[str] | None:
    """What the samples of a conditional model are of: the classes by turns."""
    if model.condition is None:
        return None
    classes = model.condition.classes
    words = class_names(range(classes), names)
    return [words[number % classes] for number in range(SAMPLED)]
