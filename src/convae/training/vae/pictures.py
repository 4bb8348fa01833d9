"""Pictures of a run as it goes: reconstructions, interpolations, samples and the curves."""

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
"""Images in a picture of reconstructions."""
SAMPLED = 64
"""Images in a picture of samples."""
WAYS = 4
"""Ways from one image to another in a picture of interpolations."""
WAY_STEPS = 9
"""Images of such a way, both ends among them."""


@torch.no_grad()
def draw_pictures(
    model: VAE, split: ImageSet, device: torch.device, *, seed: int, name: str, folder: Path, epoch: int
) -> None:
    """Writes reconstructions, interpolations between images, and samples from the prior.

    Args:
        model: on the device.
        split: whose images are reconstructed.
        device: of the model.
        seed: of the samples.
        name: of the run, for titles.
        folder: where the PNG files go.
        epoch: for names and titles.

    Raises:
        DataError: the model gives values that are not finite.
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
    ways = min(WAYS, len(latents) // 2)
    if ways:
        ends = latents[: 2 * ways].reshape(ways, 2, *latents.shape[1:])
        shares = torch.linspace(0, 1, WAY_STEPS, device=latents.device)
        way = torch.stack([torch.lerp(ends[:, 0], ends[:, 1], share) for share in shares], dim=1)
        # A conditional model decodes a whole path as the class of its first image, so that it ends at no image.
        kinds = None if batch.labels is None else batch.labels[: 2 * ways : 2].repeat_interleave(WAY_STEPS)
        # Between two codes there is no latent that the decoder was trained on.
        between = model.decode(model.quantize(way.flatten(0, 1)), kinds).mean
        title = f"{name}: from one {split.name} image to another, epoch {epoch}"
        if model.condition is not None:
            title = f"{name}: from {split.name} images towards others, drawn as their own class, epoch {epoch}"
        save(grid(between.cpu(), columns=WAY_STEPS, title=title), folder / f"epoch-{epoch:04d}-interpolations.png")


def _captions(model: VAE, names: tuple[str, ...] | None) -> list[str] | None:
    """What the samples of a conditional model are of: the classes by turns."""
    if model.condition is None:
        return None
    classes = model.condition.classes
    words = class_names(range(classes), names)
    return [words[number % classes] for number in range(SAMPLED)]
