"""What the latent tools have in common: the images that a person names, and files named after images."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeVar

from convae.core.errors import ConfigError, DataError
from convae.core.names import unknown

if TYPE_CHECKING:
    from torch import Tensor

    from convae.data import Split
    from convae.model.vae import VAE

Number = TypeVar("Number", int, float)


def named_images(model: VAE, words: Sequence[str], split: Callable[[], Split]) -> Tensor:
    """The images that a person names, (batch, channel, *sizes) in [0, 1].

    Args:
        model: whose input the images are brought to.
        words: paths of image files, or positions in the split, the first being 0.
        split: opens the split; called when a word is a position.

    Raises:
        DataError: a file cannot be read as an image.
        ConfigError: the split has no such position.
    """
    import torch

    opened: Split | None = None
    images = []
    for word in words:
        place = position(word)
        if place is None:
            images.append(_file(model, Path(word)))
            continue
        opened = opened or split()
        if place >= len(opened):
            raise ConfigError(f"image {word}: the split has images 0 to {len(opened) - 1}")
        images.append(images_at(opened, [place])[0])
    return torch.stack(images)


def position(word: str) -> int | None:
    """The position in a split that a word means; None where it is the name of a file."""
    return int(word) if word.isdecimal() and not Path(word).exists() else None


def images_at(split: Split, positions: Sequence[int]) -> Tensor:
    """The images at some positions of a split, (batch, channel, *sizes) in [0, 1]."""
    import numpy as np

    from convae.data import in_order

    (batch,) = in_order(split, len(positions), indices=np.asarray(positions, np.int64))
    return batch.images


def _file(model: VAE, path: Path) -> Tensor:
    """An image file, brought to the model's shape as its training images were."""
    from convae.data import load_and_preprocess, to_tensor

    channels, *sizes = model.input_shape
    if len(sizes) != 2:
        raise DataError(f"{path}: model '{model.name}' takes no image files: name its images by their position")
    fit = model.metadata.get("data", {}).get("fit", "crop")
    return to_tensor(load_and_preprocess(path, sizes, channels=channels, fit=fit))


def pictured(model: VAE) -> bool:
    """Whether the model's images are such as a PNG can hold: two axes, and grey, RGB or RGBA."""
    return len(model.input_shape) == 3 and model.input_shape[0] in (1, 3, 4)


def image_paths(folder: Path, names: Sequence[str], *, two_axes: bool) -> list[Path]:
    """Where images with these names go: the same nested folders, as PNG, or as .npy where they are no pictures.

    Raises:
        DataError: a name leads out of the folder.
    """
    suffix = ".png" if two_axes else ".npy"
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

    from convae.core.files import write_bytes, writing
    from convae.data import to_pil
    from convae.pictures.save import save

    with writing(path):
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
        return [kind(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"{what}: numbers with commas between, such as 0,1, not '{text}'") from error


def classes_of(split: Split) -> dict[int, str]:
    """What the classes of a split are called, by their numbers.

    Raises:
        ConfigError: the images have no labels.
    """
    if split.labels is None:
        raise ConfigError(f"the images of {split.source} have no labels: give --having and --without")
    there = sorted({int(label) for label in split.labels if label >= 0})
    return {number: split.classes[number] if split.classes else str(number) for number in there}


def class_number(word: str, called: Mapping[int, str]) -> int:
    """The number of the class that a person names or numbers.

    Raises:
        ConfigError: there is no such class.
    """
    named = [number for number, name in called.items() if name == word]
    if named or (word.isdecimal() and int(word) in called):
        return named[0] if named else int(word)
    raise ConfigError(unknown("class", word, list(called.values())))
