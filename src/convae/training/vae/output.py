"""What a training keeps of its model: pictures of what it computes, and the provenance of the artifact."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from convae.core.random import torch_generator
from convae.data.batches import in_order
from convae.data.image_set import ImageSet, evenly_spaced
from convae.latents.class_labels import sampled_classes
from convae.latents.interpolation import interpolate
from convae.latents.quantized import nearest_paths
from convae.model.artifact import read_config
from convae.model.provenance import Provenance, SplitFacts, TrainingFacts
from convae.model.vae import VAE
from convae.objective.objective import WEIGHT
from convae.pictures.grid import grid, pairs
from convae.pictures.save import save
from convae.training.loop.task import SavedAs
from convae.training.recipe.schema import Recipe
from convae.training.run_folder import RunFolder

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
    captions = sampled_classes(model, SAMPLED, split.classes)
    sheet = grid(sampled.cpu(), captions=captions, title=f"{name}: samples, epoch {epoch}")
    save(sheet, folder / f"epoch-{epoch:04d}-samples.png")
    paths = min(PATHS, len(latents) // 2)
    if paths:
        path = interpolate(latents[: 2 * paths : 2], latents[1 : 2 * paths : 2], PATH_STEPS)
        # A conditional model decodes the path as the class of its first image, so that its end is not an image.
        kinds = None if batch.labels is None else batch.labels[: 2 * paths : 2].repeat_interleave(PATH_STEPS)
        path = nearest_paths(model, path, [0, -1])
        between = model.decode(path.flatten(0, 1).to(device), kinds).mean
        title = f"{name}: from one {split.name} image to another, epoch {epoch}"
        if model.condition is not None:
            title = f"{name}: from {split.name} images towards others, drawn as their own class, epoch {epoch}"
        save(grid(between.cpu(), columns=PATH_STEPS, title=title), folder / f"epoch-{epoch:04d}-interpolations.png")


def make_provenance(
    recipe: Recipe,
    images: ImageSet,
    splits: Mapping[str, Mapping[str, Any]],
    saved: SavedAs,
    folder: RunFolder,
    *,
    has_frozen_encoder: bool,
) -> Provenance:
    """The provenance of a trained model.

    Args:
        recipe: recipe of the run.
        images: the training images.
        splits: facts on each split of the data set by name.
        saved: which model of the run it is.
        folder: run folder, with a copy of the model from which the run started.
        has_frozen_encoder: whether the encoder and bottleneck are frozen in all stages.
    """
    before = _provenance_of_start(recipe, folder)
    return Provenance(
        classes=tuple(images.classes) if images.classes else None,
        data=recipe.data.model_dump(mode="json", exclude={"dir"}),
        splits={name: SplitFacts(**facts) for name, facts in splits.items()},
        training=TrainingFacts(
            recipe=recipe.title,
            data=SplitFacts(**images.describe()),
            step=saved.step,
            stage=saved.stage,
            which=saved.which,
            objective=_objective(recipe),
            encoder_objective=_encoder_objective(before) if has_frozen_encoder else None,
            validation=saved.metrics,
            start=None if recipe.start is None else recipe.start.sha256,
        ),
        latent_scale=None if before is None else before.latent_scale,
        published={} if before is None else before.published,
    )


def _objective(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """The terms of all stages; one without a weight in the recipe is that of the first stage with it."""
    terms = dict(recipe.objective)
    for stage in recipe.stages:
        for name, changed in stage.objective.items():
            if terms.get(name, {WEIGHT: 0}).get(WEIGHT, 1) == 0:
                terms[name] = {**recipe.objective.get(name, {}), **changed}
    return terms


def _provenance_of_start(recipe: Recipe, folder: RunFolder) -> Provenance | None:
    """That of the model from which the run started, if its encoder came from there."""
    start = recipe.start
    if start is None or not folder.start.exists() or (start.parts and "encoder" not in start.parts):
        return None
    return read_config(folder.start).provenance


def _encoder_objective(before: Provenance | None) -> dict[str, dict[str, Any]]:
    """The objective with which the encoder was trained; empty if unknown."""
    trained = None if before is None else before.training
    if trained is None:
        return {}
    return trained.objective if trained.encoder_objective is None else trained.encoder_objective
