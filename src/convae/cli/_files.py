"""Files that commands write."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from convae.core.errors import DataError
from convae.core.files import require_free

if TYPE_CHECKING:
    from torch import Tensor

    from convae.data import Split
    from convae.model.vae import VAE


def new_files(folder: Path, names: Sequence[str], force: bool) -> list[Path]:
    """Paths in `folder` for files that will be written there.

    Raises:
        OutputError: one of them exists and `force` is not set.
    """
    paths = [folder / name for name in names]
    for path in paths:
        require_free(path, force=force)
    return paths


def short_name(word: str) -> str:
    """The caption of an image that a user named: the last part of its path."""
    return word.rstrip("/").rpartition("/")[2]


def image_paths(model: VAE, folder: Path, names: Sequence[str]) -> list[Path]:
    """Paths for a model's images with these names: PNG, or .npy where PNG cannot hold them.

    Raises:
        DataError: a name leads out of the folder.
    """
    from convae.latents.inputs import takes_image_files

    suffix = ".png" if takes_image_files(model) else ".npy"
    taken: set[PurePosixPath] = set()
    paths = []
    for name in names:
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or not pure.name:
            raise DataError(f"'{name}': the name of an image is outside of the folder {folder}")
        place = pure.with_suffix(suffix)
        if place in taken:  # a.jpg next to a.png
            place = pure.with_name(pure.name + suffix)
        while place in taken:
            place = place.with_name(place.name + suffix)
        taken.add(place)
        paths.append(folder / place)
    return paths


def write_image(image: Tensor, path: Path) -> None:
    """Writes (channel, *sizes) in [0, 1] as PNG, or as a NumPy array; makes its folder."""
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


def image_columns(split: Split) -> dict[str, Any]:
    """The table columns that identify each image: `name`, `split`, `class`, `label`."""
    from convae.latents.tables import image_columns

    labels = None if split.labels is None else split.labels.tolist()
    return image_columns(split.keys, [split.part(index) for index in range(len(split))], labels, split.classes)


def sorted_rows(table: dict[str, Any], order: Sequence[int]) -> dict[str, Any]:
    """The rows of a table in another order."""
    return {name: [column[index] for index in order] for name, column in table.items()}
