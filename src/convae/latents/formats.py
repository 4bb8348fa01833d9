"""Latents as files: safetensors, npz, CSV and Parquet. Nothing is ever unpickled."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from convae.core.errors import ConfigError, DataError
from convae.core.files import open_regular, utf8_path, write_bytes
from convae.core.names import array_error, unknown_message
from convae.core.types import Shape
from convae.latents.encoding import Encoding
from convae.latents.tables import Content, encode_csv, encode_parquet, import_arrow, read_csv, read_parquet

TENSORS = ("mean", "logvar", "codes", "labels")
"""Tensors of the images in a file; codes and labels may be missing."""
TEXTS = ("names", "splits")
"""Texts of the images in a file; splits may be missing."""
FORMATS = ("safetensors", "npz", "parquet", "csv")


def find_writer(format: str) -> Callable[[Path, Encoding], None]:
    """The function that writes an encoding in a format.

    Raises:
        ConfigError: there is no such format, or its package is not installed.
    """
    encoders = {"safetensors": _encode_safetensors, "npz": _encode_npz, "parquet": encode_parquet, "csv": encode_csv}
    if format not in encoders:
        raise ConfigError(unknown_message("format of latents", format, encoders))
    if format == "parquet":
        import_arrow()
    return lambda path, encoding: write_bytes(path, encoders[format](encoding))


def read_encoding(path: Path, latent_shape: Shape | None = None) -> Encoding:
    """Reads the latents in a file.

    Args:
        path: the file; its suffix is the format.
        latent_shape: shape of one latent, for CSV, which does not store it.

    Raises:
        DataError: the file is missing or damaged, or has no latents.
        ConfigError: its format needs a package that is not installed.
    """
    tensors, texts = read_content(path, latent_shape)
    try:
        mean, names = tensors["mean"], texts["names"]
        if tensors["logvar"].shape != mean.shape or {len(names), *map(len, tensors.values())} != {len(mean)}:
            raise ValueError("its arrays have different numbers of images")
        return Encoding(
            mean, tensors["logvar"], tensors.get("labels"), names, tensors.get("codes"), None, texts.get("splits")
        )
    except (ValueError, KeyError) as error:
        raise DataError(f"{path}: damaged, or not a file of latents ({array_error(error)})") from error


def read_content(path: Path, latent_shape: Shape | None = None) -> Content:
    """Reads tensors and texts of a file by name; they may be a part of an encoding, such as codes alone.

    Raises:
        DataError: the file is missing or damaged, or has other content.
        ConfigError: its format needs a package that is not installed.
    """
    readers: dict[str, Callable[[Path], Content]] = {
        ".npz": _read_npz,
        ".npy": _read_npy,
        ".parquet": read_parquet,
        ".csv": lambda path: read_csv(path, latent_shape),
    }
    try:
        with open_regular(path):
            pass  # a pipe or a device would block
        tensors, texts = readers.get(path.suffix.lower(), _read_safetensors)(path)
        for name, tensor in tensors.items():
            if tensor.is_floating_point() != (name in ("mean", "logvar")):
                raise ValueError(f"its {name} are {tensor.dtype}")
        return tensors, texts
    except (OSError, EOFError, ValueError, KeyError, TypeError, SafetensorError, zipfile.BadZipFile) as error:
        if isinstance(error, OSError) and error.strerror:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from error
        raise DataError(f"{path}: damaged, or not a file of latents ({array_error(error)})") from error


def _tensors(encoding: Encoding) -> dict[str, Tensor]:
    found = {name: getattr(encoding, name) for name in TENSORS}
    return {name: tensor.contiguous() for name, tensor in found.items() if tensor is not None}


def _texts(encoding: Encoding) -> dict[str, list[str]]:
    found = {name: getattr(encoding, name) for name in TEXTS}
    return {name: list(texts) for name, texts in found.items() if texts is not None}


def _encode_safetensors(encoding: Encoding) -> bytes:
    # JSON escapes bytes of names that are not UTF-8.
    texts = {name: json.dumps(texts) for name, texts in _texts(encoding).items()}
    content: bytes = save(_tensors(encoding), texts)
    return content


def _read_safetensors(path: Path) -> Content:
    with utf8_path(path) as opened, safe_open(opened, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
        metadata = file.metadata() or {}
        return tensors, {name: json.loads(metadata[name]) for name in TEXTS if name in metadata}


def _encode_npz(encoding: Encoding) -> bytes:
    arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in _tensors(encoding).items()}
    arrays |= {name: np.array(texts, str) for name, texts in _texts(encoding).items()}
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def _read_npz(path: Path) -> Content:
    with np.load(path, allow_pickle=False) as file:
        tensors = {name: torch.from_numpy(file[name]) for name in TENSORS if name in file}
        return tensors, {name: file[name].tolist() for name in TEXTS if name in file}


def _read_npy(path: Path) -> Content:
    """An array: latents if it has floats, otherwise codes."""
    with path.open("rb") as file:
        values = torch.from_numpy(np.load(file, allow_pickle=False))
    return ({"mean": values} if values.is_floating_point() else {"codes": values.long()}), {}
