"""Drawing and writing the samples of `convae sample`: images, their labels, and a sheet."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convae.core.errors import ConfigError
from convae.core.names import class_names
from convae.core.paths import safe_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from convae.latents import ClassGaussians, Session
    from convae.model.vae import VAE

MANIFEST = "manifest.csv"
LONGEST = 255
"""Number of bytes of a name of a folder that file systems allow."""
DEFAULT_COUNT, DEFAULT_PER_CLASS = 64, 10
"""Default numbers of images."""


@dataclass(frozen=True)
class SampleRequest:
    """The requested samples; see the options of the command."""

    count: int | None
    label: str | None
    labeled: bool
    confidence: float | None
    has_data: bool
    seed: int
    temperature: tuple[float, ...]
    truncation: float | None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def names_classes(self) -> bool:
        """Whether samples of given classes are requested."""
        return self.label is not None or self.labeled

    @property
    def number(self) -> int:
        """Number of images, per class if classes are requested."""
        return self.count or (DEFAULT_PER_CLASS if self.names_classes else DEFAULT_COUNT)

    @property
    def factors(self) -> float | tuple[float, ...]:
        """The temperature: one for all latents, or one for each."""
        return self.temperature[0] if len(self.temperature) == 1 else self.temperature

    @property
    def description(self) -> str:
        """Seed, temperature, truncation and options of the prior, for titles."""
        shown = ", ".join(f"{each:g}" for each in self.temperature)
        text = f", seed {self.seed}" + ("" if set(self.temperature) == {1} else f", temperature {shown}")
        text += "" if self.truncation is None else f", truncation {self.truncation:g}"
        return text + "".join(f", {name} {value}" for name, value in self.options.items())


@dataclass(frozen=True)
class Samples:
    """Samples with their labels.

    Attributes:
        images: (image, channel, *sizes) in [0, 1].
        labels: class name of each image; None if classes are unknown.
        confidence: probability of each label by the classifier or the Gaussians; None without them.
        how: description for titles.
    """

    images: Tensor
    labels: list[str] | None
    confidence: list[float] | None
    how: str


def draw_samples(session: Session, request: SampleRequest) -> Samples:
    """Draws the samples of a request.

    Raises:
        ConfigError: the request contradicts itself, or the model cannot meet it.
    """
    from convae.latents import draw_latents, draws_by_label

    model = session.model
    if request.label is not None and request.labeled:
        raise ConfigError("--labeled draws every class and --label one: give one of them")
    by_label = draws_by_label(model)
    if by_label and (request.confidence is not None or request.has_data):
        what = "is conditional and decodes" if session.is_conditional else "has a prior for"
        raise ConfigError(f"model '{model.name}' {what} any class: leave out --confidence and --data")
    if request.names_classes or session.is_conditional or model.classifier is not None:
        return _of_classes(session, request)
    if request.confidence is not None or request.has_data:
        raise ConfigError(f"model '{model.name}' has no classifier: --confidence and --data need --label or --labeled")
    z = draw_latents(
        model,
        request.number,
        seed=request.seed,
        temperature=request.factors,
        truncation=request.truncation,
        options=request.options,
    )
    return Samples(session.decode(z), None, None, f"samples from the prior{request.description}")


def draws_from_gaussians(model: VAE, request: SampleRequest) -> bool:
    """Whether latents are drawn from a Gaussian per class of labeled images, not from the prior."""
    from convae.latents import draws_by_label

    knows_classes = draws_by_label(model) or model.classifier is not None
    return request.has_data or (request.names_classes and not knows_classes)


def _of_classes(session: Session, request: SampleRequest) -> Samples:
    """Samples with labels, of one class, of every class or of any."""
    from convae.latents import CONFIDENCE, class_number, draw_labeled, sampleable_classes

    model = session.model
    gaussians: ClassGaussians | None = None
    names: Sequence[str] | None = model.provenance.classes
    if draws_from_gaussians(model, request):
        gaussians, names = _class_gaussians(session)
    words = class_names(sampleable_classes(model, gaussians), names)
    wanted = list(words) if request.labeled else None
    if request.label is not None:
        wanted = [class_number(request.label, words)]
    least = (CONFIDENCE if wanted is not None else 0.0) if request.confidence is None else request.confidence
    found = draw_labeled(
        model,
        request.number,
        wanted,
        confidence=least,
        known=gaussians,
        seed=request.seed,
        temperature=request.factors,
        truncation=request.truncation,
        options=request.options,
        progress=session.progress,
        engine=session.engine,
    )
    confidence = None if found.confidence is None else found.confidence.tolist()
    how = "samples" if wanted is None else f"samples of {'each class' if request.labeled else words[wanted[0]]}"
    how += "" if gaussians is None else ", from a Gaussian per class over the latents of labeled images"
    how += f", confidence at least {least:g}" if confidence and least else ""
    labels = [words[number] for number in found.labels.tolist()]
    return Samples(found.images, labels, confidence, f"{how}{request.description}")


def _class_gaussians(session: Session) -> tuple[ClassGaussians, Sequence[str] | None]:
    """A Gaussian for each class of the session's labeled images, and the names of the classes."""
    from convae.latents import fit_class_gaussians

    return fit_class_gaussians(session.encode()), session.images.classes


def write_samples(model: VAE, request: SampleRequest, samples: Samples, out: Path, *, force: bool, show: bool) -> None:
    """Writes each image, the list of labels and the sheet, and prints their paths."""
    from convae.cli._files import image_paths, new_files, write_image
    from convae.cli._screen import wrote
    from convae.core.file_sets import begin_file_set
    from convae.core.files import write_text
    from convae.pictures.grid import grid
    from convae.pictures.save import save

    count = request.number
    numbers = [f"{number % count:0{len(str(count - 1))}}" for number in range(len(samples.images))]
    if request.labeled and samples.labels:
        folders = _class_folders(samples.labels[::count])
        numbers = [f"{folders[place // count]}/{number}" for place, number in enumerate(numbers)]
    # Other commands write their sheets to the same folder.
    folder = out if request.labeled else out / "samples"
    paths = image_paths(model, folder, numbers)
    files = [str(path.relative_to(folder)) for path in paths]
    # A sheet inside a folder of class folders would be read as one more image.
    place, name = (out.parent, f"{out.resolve().name}-sheet.png") if request.labeled else (out, "samples.png")
    (sheet,) = new_files(place, [name], force)
    manifest, *_ = begin_file_set(folder, [MANIFEST, *files], force=force)
    for image, path in zip(samples.images, paths, strict=True):
        write_image(image, path)
    title = f"{model.name}: {samples.how}"
    if request.labeled and samples.labels:
        across = min(count, DEFAULT_PER_CLASS)
        chosen = [number for number in range(len(paths)) if number % count < across]
        save(grid(samples.images[chosen], columns=across, row_labels=samples.labels[::count], title=title), sheet)
    else:
        of_any = samples.labels is not None and request.label is None
        save(grid(samples.images, captions=samples.labels if of_any else None, title=title), sheet)
    wrote(sheet, show)
    if samples.labels is not None:
        write_text(manifest, _table(files, samples.labels, samples.confidence))
        wrote(manifest)


def _class_folders(names: Sequence[str]) -> list[str]:
    """A folder for each class, which the source `folder` reads: the name of the class where that is possible."""
    folders: list[str] = []
    for name in names:
        folder = name.replace("/", "-")
        if not folder or folder.startswith(".") or len(folder.encode(errors="surrogatepass")) > LONGEST:
            folder = safe_name(folder)
        taken = [folder, *(f"{folder}-{number}" for number in range(2, len(names) + 1))]
        folders.append(next(each for each in taken if each not in folders))
    return folders


def _table(files: list[str], labels: list[str], confidence: list[float] | None) -> str:
    """The list of images as CSV, which the source `manifest` reads."""
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["path", "label", *(["confidence"] if confidence else [])])
    for number, (file, label) in enumerate(zip(files, labels, strict=True)):
        table.writerow([file, label, *([f"{confidence[number]:.4f}"] if confidence else [])])
    return text.getvalue()
