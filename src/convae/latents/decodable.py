"""What can be decoded: latents or codes, from a folder that `encode_to` wrote or from a file of any other origin."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from convae.core.errors import ConfigError, ConvaeError, DataError, ShapeError
from convae.core.names import shape_text
from convae.latents import formats
from convae.latents.folders import iterate_latents, read_manifest
from convae.model.vae import VAE


@dataclass(frozen=True)
class Decodable:
    """Some latents, and what is known of the images that they are of.

    Attributes:
        names: of the images; their numbers where they have none.
        z: (image, *latent), finite; those of codes where a file holds only codes.
        labels: (image,) class numbers, -1 where one is missing; None without labels.
    """

    names: list[str]
    z: Tensor
    labels: Tensor | None


@dataclass(frozen=True)
class _Found:
    """What a file holds, in whatever shape."""

    names: list[str]
    z: Tensor | None
    codes: Tensor | None
    labels: Tensor | None


def encoded_by(path: Path) -> tuple[str, str] | None:
    """Name and fingerprint of the model that latents come from; None where nothing says that.

    Args:
        path: a folder that `encode_to` wrote, or a file; one that is listed in the manifest beside it is known too.
    """
    folder = path if path.is_dir() else path.parent
    try:
        manifest = read_manifest(folder)
        if path.is_dir() or path.name in manifest["files"]:
            return str(manifest["model"]["name"]), str(manifest["model"]["sha256"])
    except (ConvaeError, KeyError):
        pass
    return None


def iterate_decodable(path: Path, model: VAE) -> Iterator[Decodable]:
    """Latents or codes, a file at a time, in the shape that a model has.

    Args:
        path: a folder that `encode_to` wrote, or a file: one of these, a table with the columns z0 … or code0 …, an
            .npz or .safetensors with `mean` or `codes`, or an .npy of floats, which are latents, or of codes.
        model: that they are for.

    Raises:
        DataError: there is nothing to decode, it is damaged, or a latent is not finite.
        ShapeError: they are of another shape than the model's.
        ConfigError: they are codes, and the model has no codebook.
    """
    if path.is_dir():
        for part in iterate_latents(path):
            yield _checked(_Found(list(part.names), part.mean, None, part.labels), model, path)
        return
    if not path.exists():
        raise DataError(f"{path}: holds no latents: there is neither such a folder nor such a file")
    tensors, texts = formats.read_content(path, None)
    known = tensors.get("mean", tensors.get("codes"))
    if known is None or not len(known):
        raise DataError(f"{path}: holds neither latents (mean, or columns z0 …) nor codes (codes, or columns code0 …)")
    width = len(str(len(known) - 1))
    names = texts.get("names") or [f"{number:0{width}}" for number in range(len(known))]
    if {len(names), *map(len, tensors.values())} != {len(known)}:
        raise DataError(f"{path}: what it holds of the images are different numbers")
    yield _checked(_Found(names, tensors.get("mean"), tensors.get("codes"), tensors.get("labels")), model, path)


def _checked(part: _Found, model: VAE, path: Path) -> Decodable:
    """The same in the model's shape; tables and arrays may hold it flat."""
    latent = model.latent_shape
    z = None if part.z is None else _shaped(part.z, latent, "latents", path)
    if z is not None:
        wrong = (~z.flatten(1).isfinite().all(1)).nonzero()[:, 0]
        if len(wrong):
            count = f"{len(wrong)} of {len(z)} latents"
            raise DataError(f"{path}: {count} are NaN or infinite, the first is '{part.names[int(wrong[0])]}'")
    if z is None and part.codes is not None:
        if not model.bottleneck.codebook_sizes:
            raise ConfigError(
                f"{path}: holds codes (whole numbers), and model '{model.name}' has no codebook: latents are floats"
            )
        z = _vectors_of(_shaped(part.codes, model.bottleneck.code_shape, "codes", path), part.names, model, path)
    assert z is not None  # whoever calls has found latents or codes
    return Decodable(part.names, z, part.labels)


def _vectors_of(codes: Tensor, names: list[str], model: VAE, path: Path) -> Tensor:
    """(image, *code shape) numbers of codes to latents, on the CPU."""
    sizes = model.bottleneck.codebook_sizes
    levels = codes.reshape(len(codes), len(sizes), -1)
    wrong = ((levels < 0) | (levels >= torch.tensor(sizes)[:, None])).flatten(1).any(1).nonzero()[:, 0]
    if len(wrong):
        raise DataError(
            f"{path}: the codes of {len(wrong)} of {len(codes)} images are none of model '{model.name}', which has the "
            f"codes 0 to {' or '.join(str(size - 1) for size in sizes)}; the first is '{names[int(wrong[0])]}'"
        )
    with torch.no_grad():
        return model.bottleneck.embed_codes(codes.to(next(model.parameters()).device)).cpu()


def _shaped(values: Tensor, shape: tuple[int, ...], what: str, path: Path) -> Tensor:
    """(image, *shape), whether the values of an image are in that shape or flat."""
    found = tuple(values.shape[1:])
    if found != shape and (len(found) > 1 or math.prod(found) != math.prod(shape)):
        raise ShapeError(f"{path}: the model has {what} {shape_text(shape)}, these are {shape_text(found)}")
    return values.reshape(len(values), *shape)
