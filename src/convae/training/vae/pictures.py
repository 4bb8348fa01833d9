"""Pictures of a training: reconstructions, interpolations and samples."""

from __future__ import annotations

from pathlib import Path

import torch

from convae.core.names import class_names
from convae.core.random import torch_generator
from convae.data.batches import ImageSet, evenly_spaced, in_order
from convae.model.vae import VAE
from convae.pictures.grid import grid, pairs
from convae.pictures.save import save

SHOWN = 16
"""Number of reconstructions in a picture."""
SAMPLED = 64
"""Number of samples in a picture."""
PATHS = 4
"""Number of interpolations in a picture."""
PATH_STEPS = 9
"""Number of images per interpolation, including both ends."""


@torch.no_grad()
def draw_pictures(
    model: VAE, split: ImageSet, device: torch.device, *, seed: int, name: str, folder: Path, epoch: int
) -> None:
    """Saves pictures of reconstructions, interpolations between images, and samples from the prior.

    Args:
        model: the model.
        split: images for reconstructions.
        device: device of the model.
        seed: seed of the samples.
        name: name of the run, for titles.
        folder: folder of the PNG files.
        epoch: epoch, for names and titles.

    Raises:
        DataError: the model returns non-finite values.
    """
    model.eval()
    batch = next(in_order(split, SHOWN, device, evenly_spaced(len(split), SHOWN)))
    latents = model.encode(batch.images, batch.labels).mean
    decoded = model.decode(latents, batch.labels).mean
    generator = torch_generator(seed, "pictures")
    sampled = model.sample(SAMPLED, generator)
    title = f"{name}: {split.name} images, epoch {epoch}"
    save(pairs(batch.images.cpu(), decoded.cpu(), title=title), folder / f"epoch-{epoch:04d}-reconstructions.png")
    captions = _captions(model, split.classes)
    sheet = grid(sampled.cpu(), captions=captions, title=f"{name}: samples, epoch {epoch}")
    save(sheet, folder / f"epoch-{epoch:04d}-samples.png")
    paths = min(PATHS, len(latents) // 2)
    if paths:
        ends = latents[: 2 * paths].reshape(paths, 2, *latents.shape[1:])
        fractions = torch.linspace(0, 1, PATH_STEPS, device=latents.device)
        path = torch.stack([torch.lerp(ends[:, 0], ends[:, 1], fraction) for fraction in fractions], dim=1)
        # A conditional model decodes the path as the class of its first image, so that its end is not an image.
        kinds = None if batch.labels is None else batch.labels[: 2 * paths : 2].repeat_interleave(PATH_STEPS)
        # The decoder was trained on codes, or points of a sphere, only.
        between = model.decode(model.nearest_latents(path.flatten(0, 1)), kinds).mean
        title = f"{name}: from one {split.name} image to another, epoch {epoch}"
        if model.condition is not None:
            title = f"{name}: from {split.name} images towards others, drawn as their own class, epoch {epoch}"
        save(grid(between.cpu(), columns=PATH_STEPS, title=title), folder / f"epoch-{epoch:04d}-interpolations.png")


def _captions(model: VAE, names: tuple[str, ...] | None) -> list[str] | None:
    """The classes of the samples of a conditional model, in turn."""
    if model.condition is None:
        return None
    classes = model.condition.classes
    words = class_names(range(classes), names)
    return [words[number % classes] for number in range(SAMPLED)]
