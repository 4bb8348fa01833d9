"""Reading latents or codes for decoding, from a folder of `encode_to` or from other files."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from convae.core.errors import ConfigError, ConvaeError, DataError, ShapeError
from convae.core.names import shape_text
from convae.core.paths import local_path
from convae.latents import formats
from convae.latents.folders import iterate_latents, read_manifest
from convae.model.vae import VAE


@dataclass(frozen=True)
class Decodable:
    """Latents with names and labels.

    Attributes:
        names: names of the images; numbers by default.
        z: (image, *latent), finite; embedded codes if a file contains only codes.
        labels: (image,) class numbers, -1 if missing; None without labels.
    """

    names: list[str]
    z: Tensor
    labels: Tensor | None


@dataclass(frozen=True)
class _Found:
    """The content of a file, in any shape."""

    names: list[str]
    z: Tensor | None
    codes: Tensor | None
    labels: Tensor | None


def read_model_identity(path: str | Path) -> tuple[str, str] | None:
    """Name and fingerprint (`autoencoder_fingerprint`) of the model of latents; None if not recorded.

    Args:
        path: a folder of `encode_to`, or a file; a file may be listed in the manifest next to it.
    """
    path = local_path(path)
    folder = path if path.is_dir() else path.parent
    try:
        manifest = read_manifest(folder)
        if path.is_dir() or path.name in manifest["files"]:
            return str(manifest["model"]["name"]), str(manifest["model"]["sha256"])
    except (ConvaeError, KeyError):
        pass
    return None


def iterate_decodable(path: str | Path, model: VAE) -> Iterator[Decodable]:
    """Iterates over files of latents or codes, in the shape of a model.

    Args:
        path: a folder of `encode_to`, or a file: a table with the columns z0 … or code0 …, an .npz or .safetensors with
            `mean` or `codes`, or an .npy of floats (latents) or integers (codes).
        model: the decoding model.

    Raises:
        DataError: missing or damaged, or a latent is not finite.
        ShapeError: the shape differs from that of the model.
        ConfigError: codes for a model without a codebook.
    """
    path = local_path(path)
    if path.is_dir():
        for part in iterate_latents(path):
            yield _checked(_Found(list(part.names), part.mean, None, part.labels), model, path)
        return
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    tensors, texts = formats.read_content(path, None)
    known = tensors.get("mean", tensors.get("codes"))
    if known is None or not len(known):
        raise DataError(f"{path}: has neither latents (mean, or columns z0 …) nor codes (codes, or columns code0 …)")
    width = len(str(len(known) - 1))
    names = texts.get("names") or [f"{number:0{width}}" for number in range(len(known))]
    if {len(names), *map(len, tensors.values())} != {len(known)}:
        raise DataError(f"{path}: its arrays have different numbers of images")
    yield _checked(_Found(names, tensors.get("mean"), tensors.get("codes"), tensors.get("labels")), model, path)


def _checked(part: _Found, model: VAE, path: Path) -> Decodable:
    """Reshapes the content to the shape of the model; tables and arrays may be flat."""
    latent = model.latent_shape
    z = None if part.z is None else _shaped(part.z, latent, "latents", path)
    if z is not None:
        wrong = (~z.flatten(1).isfinite().all(1)).nonzero()[:, 0]
        if len(wrong):
            count = f"{len(wrong)} of {len(z)} latents"
            raise DataError(f"{path}: {count} are NaN or infinite, the first is '{part.names[int(wrong[0])]}'")
    if z is None and part.codes is not None:
        if not all(latent.is_discrete for latent in model.latent_modules):
            raise ConfigError(
                f"{path}: has codes (integers), but model '{model.name}' has no codebook. Give latents (floats)"
            )
        z = _vectors_of(part.codes, part.names, model, path)
    assert z is not None  # checked by the caller
    return Decodable(part.names, z, part.labels)


def _vectors_of(codes: Tensor, names: list[str], model: VAE, path: Path) -> Tensor:
    """Embeds code indices, (image, *code shape) or flat, as latents on the CPU; of a hierarchy, latent after latent."""
    latents = model.latent_modules
    shape = latents[0].code_shape if len(latents) == 1 else (sum(math.prod(each.code_shape) for each in latents),)
    parts = _shaped(codes, shape, "codes", path).flatten(1).split([math.prod(each.code_shape) for each in latents], 1)
    named, device = {}, next(model.parameters()).device
    for latent, part in zip(latents, parts, strict=True):
        sizes = latent.codebook_sizes
        levels = part.reshape(len(part), len(sizes), -1)
        wrong = ((levels < 0) | (levels >= torch.tensor(sizes)[:, None])).flatten(1).any(1).nonzero()[:, 0]
        if len(wrong):
            raise DataError(
                f"{path}: {len(wrong)} of {len(codes)} images have codes outside of 0 to "
                f"{' or '.join(str(size - 1) for size in sizes)}, those of model '{model.name}'; the first is "
                f"'{names[int(wrong[0])]}'"
            )
        named[latent.stream] = part.reshape(len(part), *latent.code_shape).to(device)
    with torch.no_grad():
        return model.embed_codes(named).cpu()


def _shaped(values: Tensor, shape: tuple[int, ...], what: str, path: Path) -> Tensor:
    """Reshapes values, flat or not, to (image, *shape)."""
    found = tuple(values.shape[1:])
    if found != shape and (len(found) > 1 or math.prod(found) != math.prod(shape)):
        raise ShapeError(f"{path}: expected {what} {shape_text(shape)}, got {shape_text(found)}")
    return values.reshape(len(values), *shape)
