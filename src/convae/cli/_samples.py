"""What `convae sample` draws and writes: images with or without labels, a list of them, and a sheet."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from convae.cli._classes import class_number
from convae.core.errors import ConfigError
from convae.core.names import class_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from convae.core.progress import Progress
    from convae.latents import Classes
    from convae.model.vae import VAE

MANIFEST = "manifest.csv"
ANY, OF_A_CLASS = 64, 10
"""Images that are drawn where nobody says how many."""


@dataclass(frozen=True)
class Wish:
    """What a person asks for; see the options of the command."""

    count: int | None
    label: str | None
    labelled: bool
    confidence: float | None
    data: str | None
    data_dir: Path | None
    seed: int
    temperature: float
    truncation: float | None
    fitted: bool = False

    @property
    def of_classes(self) -> bool:
        """Whether certain classes are asked for."""
        return self.label is not None or self.labelled

    @property
    def number(self) -> int:
        """How many images, of each class where classes are asked for."""
        return self.count or (OF_A_CLASS if self.of_classes else ANY)


@dataclass(frozen=True)
class Samples:
    """What was drawn.

    Attributes:
        images: (image, channel, *sizes) in [0, 1].
        labels: what each one's class is called; None where nobody knows.
        confidence: probability of each label; None where nobody judges.
        how: they were drawn, in words.
    """

    images: Tensor
    labels: list[str] | None
    confidence: list[float] | None
    how: str


def drawn(model: VAE, wish: Wish, progress: Progress) -> Samples:
    """The samples that a person wishes for.

    Raises:
        ConfigError: the wish contradicts itself, or the model cannot grant it.
    """
    from convae.latents import CONFIDENCE, decode, draw, draw_labelled, known_classes

    if wish.label is not None and wish.labelled:
        raise ConfigError("--labelled draws every class and --label one: give one of them")
    if wish.fitted:
        return _from_fitted(model, wish, progress)
    if model.condition is not None and (wish.confidence is not None or wish.data is not None):
        raise ConfigError(
            f"model '{model.name}' takes the label as it is: leave out --confidence, since nobody judges, and --data"
        )
    by_itself = model.condition is not None or model.classifier is not None
    if not wish.of_classes and not by_itself:
        if wish.confidence is not None or wish.data is not None:
            raise ConfigError(
                f"model '{model.name}' knows no classes: --confidence and --data go with --label or --labelled"
            )
        z = draw(model, wish.number, seed=wish.seed, temperature=wish.temperature, truncation=wish.truncation)
        return Samples(decode(model, z), None, None, f"samples from the prior, seed {wish.seed}{_changes(wish)}")
    known, names = (
        _gaussians(model, wish, progress) if wish.data or not by_itself else (None, model.metadata.get("classes"))
    )
    numbers = known_classes(model, known)
    words = class_names(numbers, names)
    wanted = _wanted(wish, words)
    least = (CONFIDENCE if wanted is not None else 0.0) if wish.confidence is None else wish.confidence
    found = draw_labelled(
        model,
        wish.number,
        wanted,
        confidence=least,
        known=known,
        seed=wish.seed,
        temperature=wish.temperature,
        truncation=wish.truncation,
        progress=progress,
    )
    sure = None if found.confidence is None else found.confidence.tolist()
    how = "samples" if wanted is None else f"samples of {'each class' if wish.labelled else words[wanted[0]]}"
    how += "" if known is None else ", from the latents of labelled images"
    how += f", confidence at least {least:g}" if sure and least else ""
    return Samples(
        found.images, [words[n] for n in found.labels.tolist()], sure, f"{how}, seed {wish.seed}{_changes(wish)}"
    )


def _from_fitted(model: VAE, wish: Wish, progress: Progress) -> Samples:
    """Samples from a mixture of Gaussians fitted to the latents of the training images."""
    from convae.cli._models import open_images
    from convae.latents import decode, encode, fit_prior

    if wish.of_classes or wish.confidence is not None:
        raise ConfigError("--from fitted draws images of any class: leave out --label, --labelled and --confidence")
    if model.condition is not None:
        raise ConfigError(f"--from fitted: model '{model.name}' is conditional, and its latents leave the class out")
    if wish.truncation is not None:
        raise ConfigError("--truncation is the standard normal prior's: leave it out with --from fitted")
    images = open_images(model, wish.data, wish.data_dir, None, progress, usual="train")
    prior = fit_prior(encode(model, images, progress=progress), seed=wish.seed)
    z = prior.draw(wish.number, seed=wish.seed, temperature=wish.temperature)
    number = len(prior.weights)
    what = "a Gaussian" if number == 1 else f"{number} Gaussians"
    how = f"samples from {what} fitted to {len(images):,} latents of {images.source} ({images.name})"
    return Samples(decode(model, z), None, None, f"{how}, seed {wish.seed}{_changes(wish)}")


def _gaussians(model: VAE, wish: Wish, progress: Progress) -> tuple[Classes, Sequence[str] | None]:
    """A Gaussian for each class of some labelled images, and the names of the classes."""
    from convae.cli._models import open_images
    from convae.latents import classes, encode

    images = open_images(model, wish.data, wish.data_dir, None, progress, usual="train")
    return classes(encode(model, images, progress=progress)), images.classes


def _wanted(wish: Wish, words: dict[int, str]) -> list[int] | None:
    """The numbers of the classes that are asked for; None for any."""
    if wish.label is None:
        return list(words) if wish.labelled else None
    return [class_number(wish.label, words)]


def _changes(wish: Wish) -> str:
    """What is not as the prior has it."""
    text = "" if wish.temperature == 1 else f", temperature {wish.temperature:g}"
    return text + ("" if wish.truncation is None else f", truncation {wish.truncation:g}")


def write(model: VAE, wish: Wish, samples: Samples, out: Path, *, force: bool, show: bool) -> None:
    """Writes each image, the list of their labels, and the sheet, and says where they are."""
    from convae.cli._latents import image_paths, write_image
    from convae.cli._models import new_files
    from convae.cli._screen import wrote
    from convae.core.file_sets import begin_file_set
    from convae.core.files import write_text
    from convae.pictures.grid import grid
    from convae.pictures.save import save

    count = wish.number
    numbers = [f"{number % count:0{len(str(count - 1))}}" for number in range(len(samples.images))]
    if wish.labelled and samples.labels:
        numbers = [f"{name.replace('/', '-')}/{number}" for name, number in zip(samples.labels, numbers, strict=True)]
    # Other commands write their sheets to the same folder: single images have one of their own.
    folder = out if wish.labelled else out / "samples"
    paths = image_paths(model, folder, numbers)
    files = [str(path.relative_to(folder)) for path in paths]
    # In a folder whose folders are the classes, the sheet would be one more image.
    place, name = (out.parent, f"{out.resolve().name}-sheet.png") if wish.labelled else (out, "samples.png")
    (sheet,) = new_files(place, [name], force)
    manifest, *_ = begin_file_set(folder, [MANIFEST, *files], force=force)
    for image, path in zip(samples.images, paths, strict=True):
        write_image(image, path)
    title = f"{model.name}: {samples.how}"
    if wish.labelled and samples.labels:
        across = min(count, OF_A_CLASS)
        shown = [number for number in range(len(paths)) if number % count < across]
        rows = list(dict.fromkeys(samples.labels))
        save(grid(samples.images[shown], columns=across, row_labels=rows, title=title), sheet)
    else:
        of_any = samples.labels is not None and wish.label is None
        save(grid(samples.images, captions=samples.labels if of_any else None, title=title), sheet)
    wrote(sheet, show)
    if samples.labels is not None:
        write_text(manifest, _table(files, samples.labels, samples.confidence))
        wrote(manifest)


def _table(files: list[str], labels: list[str], confidence: list[float] | None) -> str:
    """The list of images as CSV, which the source `manifest` reads."""
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["path", "label", *(["confidence"] if confidence else [])])
    for number, (file, label) in enumerate(zip(files, labels, strict=True)):
        table.writerow([file, label, *([f"{confidence[number]:.4f}"] if confidence else [])])
    return text.getvalue()
