"""What the latent tools have in common: the images that a person names, and files named after images."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal, TypeVar

from convae.cli._classes import drawn_as, wanted_class
from convae.core.errors import ConfigError, DataError
from convae.core.names import nearest
from convae.core.paths import local_path

if TYPE_CHECKING:
    from torch import Tensor

    from convae.data import Split
    from convae.model.vae import VAE

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class Start:
    """Images that a person names, and their latents, on the CPU.

    Attributes:
        images: (image, channel, *sizes) in [0, 1].
        z: (image, *latent), the posteriors' means.
        labels: (image,) the classes that a conditional model draws them as; None with other models.
        drawn_as: the same in words, for a title; empty with other models.
    """

    images: Tensor
    z: Tensor
    labels: Tensor | None
    drawn_as: str


def start(model: VAE, words: Sequence[str], split: Callable[[], Split], label: str | None = None) -> Start:
    """The images that a person names, encoded.

    Args:
        model: whose input the images are brought to.
        words: paths of image files, positions in the split, the first being 0, or names of its images.
        split: opens the split; called when a word is no file.
        label: the class that a conditional model draws them as, and takes an image file to be of; without it, each
            image's own, which files have not.

    Raises:
        DataError: a file cannot be read as an image.
        ConfigError: the split has no such image, the model is not conditional but there is a label, or it is and
            the class of an image is not known.
    """
    import torch

    wanted = wanted_class(model, label)
    opened: Split | None = None
    images, own = [], []
    for word in words:
        kind = -1
        if is_image_file(word):
            images.append(_file(model, local_path(word)))
        else:
            opened = opened or split()
            place = position(word, opened)
            images.append(images_at(opened, [place])[0])
            if model.condition is not None:
                model.check_labels(opened.labels, opened.source, opened.classes)
                kind = -1 if opened.labels is None else int(opened.labels[place])
        if model.condition is not None and kind < 0 and wanted is None:
            raise ConfigError(f"model '{model.name}' is conditional: --label says what class {word} is of")
        own.append(wanted if kind < 0 and wanted is not None else kind)
    parameter = next(model.parameters())
    stacked = torch.stack(images)
    labels = None if model.condition is None else torch.tensor(own, device=parameter.device)
    with torch.no_grad():
        z = model.encode(stacked.to(parameter.device), labels).mean.cpu()
    wrong = [word for word, latent in zip(words, z, strict=True) if not bool(latent.isfinite().all())]
    if wrong:
        raise DataError(f"{wrong[0]}: its latent is NaN or infinite: the weights of model '{model.name}' are broken")
    if labels is not None:
        labels = labels.cpu() if wanted is None else torch.full_like(labels, wanted).cpu()
    return Start(stacked, z, labels, drawn_as(model, wanted))


def is_image_file(word: str) -> bool:
    """Whether a word is the path of a file, rather than a position in a split or the name of an image there."""
    return local_path(word).is_file()


def position(word: str, split: Split) -> int:
    """The position in a split that a word means: a number from 0 on, or the name of an image or the end of one name.

    Raises:
        ConfigError: there is no such image, or there are several.
    """
    if word.isdecimal():
        if int(word) >= len(split):
            raise ConfigError(f"image {word}: the split has images 0 to {len(split) - 1}")
        return int(word)
    keys = split.keys
    found = [place for place, key in enumerate(keys) if key == word]
    found = found or [place for place, key in enumerate(keys) if key.endswith(f"/{word}")]
    if len(found) > 1:
        raise ConfigError(
            f"image {word}: {len(found)} images of {split.source} have that name, such as {keys[found[1]]}"
        )
    if not found:
        near = nearest(word, keys)
        guess = "" if near is None else f"; did you mean '{near}'?"
        raise ConfigError(f"image {word}: neither a file nor an image of {split.source} ({split.name}){guess}")
    return found[0]


def short_name(word: str) -> str:
    """What a picture calls an image that a person names: the last part of a path."""
    return word.rstrip("/").rpartition("/")[2]


def images_at(split: Split, positions: Sequence[int]) -> Tensor:
    """The images at some positions of a split, (batch, channel, *sizes) in [0, 1]."""
    import numpy as np

    from convae.data import in_order

    (batch,) = in_order(split, len(positions), indices=np.asarray(positions, np.int64))
    return batch.images


def _file(model: VAE, path: Path) -> Tensor:
    """An image file, brought to the model's shape as its training images were."""
    from convae.data import to_tensor
    from convae.data.provenance import read_like

    channels, *sizes = model.input_shape
    if not _pictured(model):
        raise DataError(f"{path}: model '{model.name}' takes no image files: name its images by their position")
    trained = model.metadata.get("data", {})
    return to_tensor(
        read_like(
            path,
            trained.get("source"),
            sizes,
            channels=channels,
            resize_mode=trained.get("resize_mode", "crop"),
        )
    )


def _pictured(model: VAE) -> bool:
    """Whether the model's images are such as image files hold: two axes, and grey, RGB or RGBA."""
    return len(model.input_shape) == 3 and model.input_shape[0] in (1, 3, 4)


def image_paths(model: VAE, folder: Path, names: Sequence[str]) -> list[Path]:
    """Where a model's images with these names go: the same nested folders, as PNG, or as .npy where no PNG holds them.

    Raises:
        DataError: a name leads out of the folder.
    """
    suffix = ".png" if _pictured(model) else ".npy"
    taken: set[PurePosixPath] = set()
    paths = []
    for name in names:
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or not pure.name:
            raise DataError(f"'{name}': the name of an image leads out of the folder {folder}")
        place = pure.with_suffix(suffix)
        if place in taken:  # a.jpg beside a.png
            place = pure.with_name(pure.name + suffix)
        taken.add(place)
        paths.append(folder / place)
    return paths


def write_image(image: Tensor, path: Path) -> None:
    """Writes (channel, *sizes) in [0, 1] as PNG, or as a NumPy array, making the folder it goes to."""
    import numpy as np

    from convae.core.files import write_bytes, writing_errors
    from convae.data import to_pil
    from convae.pictures.save import save

    with writing_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        save(to_pil(image), path)
    else:
        stream = io.BytesIO()
        np.save(stream, image.numpy(), allow_pickle=False)
        write_bytes(path, stream.getvalue())


def numbers(text: str, what: str, kind: type[Number]) -> list[Number]:
    """Numbers of a kind with commas between.

    Raises:
        ConfigError: it is something else.
    """
    try:
        found = [kind(part) for part in text.split(",")]
        if not all(map(math.isfinite, found)):
            raise ValueError("not finite")
        return found
    except ValueError as error:
        raise ConfigError(f"{what}: numbers with commas between, such as 0,1, not '{text}'") from error


def cluster_count(text: str) -> int | Literal["auto"]:
    """How many clusters a person asks for.

    Raises:
        ConfigError: it is neither a number nor `auto`.
    """
    if text == "auto":
        return "auto"
    if not text.isdecimal() or not int(text):
        raise ConfigError(f"a number of clusters is 1 or more, or auto, not '{text}'")
    return int(text)
