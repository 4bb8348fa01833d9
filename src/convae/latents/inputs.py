"""Encoding images given as files, positions in a split, or names in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from convae.core.errors import ConfigError, DataError
from convae.core.names import nearest_name
from convae.core.paths import local_path
from convae.core.types import Batch, Images, Latents
from convae.data import Split, in_order
from convae.data.provenance import read_like
from convae.model.compatibility import check_labels
from convae.model.inference import InferenceEngine, TorchEngine
from convae.model.vae import VAE


@dataclass(frozen=True)
class EncodedInputs:
    """Images and their latents, on the CPU.

    Attributes:
        images: (image, channel, *sizes) in [0, 1].
        z: (image, *latent), posterior means.
        labels: (image,) classes for a conditional decoder; None for other models.
    """

    images: Images
    z: Latents
    labels: Int64[Tensor, " image"] | None


def encode_inputs(
    model: VAE,
    words: Sequence[str],
    open_split: Callable[[], Split],
    label: int | None = None,
    *,
    engine: InferenceEngine | None = None,
) -> EncodedInputs:
    """Encodes images given by file, position or name.

    Args:
        model: the model.
        words: paths of image files, positions from 0, or names of images.
        open_split: opens the split for positions and names; called only if needed.
        label: for a conditional model, the class for decoding, and of images without a label.
        engine: computes the latents; by default torch.

    Raises:
        DataError: a file is not a readable image.
        ConfigError: unknown image, or the model is conditional and the class of an image is unknown.
    """
    is_conditional = model.condition is not None
    images, weights, own = list[Tensor](), list[Tensor | None](), list[int]()
    for word in words:
        number = -1
        if is_image_file(word):
            batch = _read(model, local_path(word))
        else:
            split = open_split()
            place = find_image(word, split)
            batch = _read_batch(split, [place])
            if is_conditional:
                check_labels(model, split.labels, split.source, split.classes)
                number = -1 if split.labels is None else int(split.labels[place])
        images.append(batch.images[0])
        weights.append(None if batch.weights is None else batch.weights[0])
        if is_conditional and number < 0:
            if label is None:
                raise ConfigError(f"model '{model.name}' is conditional: give the class of {word} (--label)")
            number = label
        own.append(number)
    stacked = torch.stack(images)
    labels = torch.tensor(own) if is_conditional else None
    z = (engine or TorchEngine(model)).encode(stacked, labels, _stacked(weights)).mean.cpu()
    for word, latent in zip(words, z, strict=True):
        if not bool(latent.isfinite().all()):
            raise DataError(
                f"{word}: its latent is NaN or infinite. The weights of model '{model.name}' may be damaged"
            )
    return EncodedInputs(stacked, z, labels if label is None else torch.full((len(words),), label))


def is_image_file(word: str) -> bool:
    """Whether a word is the path of an image file."""
    return local_path(word).is_file()


def find_image(word: str, split: Split) -> int:
    """The position of an image in a split, from its position, its name, or the last part of its name.

    Raises:
        ConfigError: the name is unknown or ambiguous.
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
        near = nearest_name(word, keys)
        guess = "" if near is None else f"; did you mean '{near}'?"
        raise ConfigError(f"image {word}: neither a file nor an image of {split.source} ({split.name}){guess}")
    return found[0]


def read_images(split: Split, positions: Sequence[int]) -> Images:
    """The images at positions of a split, (batch, channel, *sizes) in [0, 1]."""
    return _read_batch(split, positions).images


def _read_batch(split: Split, positions: Sequence[int]) -> Batch:
    """The images at positions of a split, with the weights of their values."""
    (batch,) = in_order(split, len(positions), indices=np.asarray(positions, np.int64))
    return batch


def _stacked(weights: Sequence[Tensor | None]) -> Tensor | None:
    """The weights of the values of images; None if those of all images are observed."""
    like = next((each for each in weights if each is not None), None)
    if like is None:
        return None
    return torch.stack([torch.ones_like(like) if each is None else each for each in weights])


def takes_image_files(model: VAE) -> bool:
    """Whether the inputs of the model are images: two spatial axes, and gray, RGB or RGBA."""
    return len(model.input_shape) == 3 and model.input_shape[0] in (1, 3, 4)


def _read(model: VAE, path: Path) -> Batch:
    """Reads an image file as the training images were read."""
    if not takes_image_files(model):
        raise DataError(f"{path}: model '{model.name}' takes no image files. Give positions or names of images")
    return read_like(path, model.provenance.data, model.input_shape)
