"""Latents as files: safetensors, or NumPy's npz. Neither ever unpickles anything."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from convae.core.errors import ConfigError, DataError
from convae.core.files import write_bytes
from convae.core.names import unknown

if TYPE_CHECKING:
    from convae.latents.encoding import Encoding


def writer(format: str) -> Callable[[Path, Encoding], None]:
    """The function that writes a format.

    Raises:
        ConfigError: no such format.
    """
    known = {"safetensors": _write_safetensors, "npz": _write_npz}
    if format not in known:
        raise ConfigError(unknown("format of latents", format, known))
    return known[format]


def read(path: Path) -> Encoding:
    """The latents in a file.

    Raises:
        DataError: the file is missing, damaged, or holds something else.
    """
    try:
        return _read_npz(path) if path.suffix == ".npz" else _read_safetensors(path)
    except (OSError, ValueError, KeyError, SafetensorError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: damaged, or not a file of latents ({error})") from error


def _write_safetensors(path: Path, encoding: Encoding) -> None:
    tensors = {"mean": encoding.mean, "logvar": encoding.logvar}
    if encoding.labels is not None:
        tensors["labels"] = encoding.labels
    write_bytes(path, save(tensors, {"names": json.dumps(list(encoding.names), ensure_ascii=False)}))


def _read_safetensors(path: Path) -> Encoding:
    from convae.latents.encoding import Encoding

    with safe_open(path, framework="pt") as file:
        keys = set(file.keys())
        labels = file.get_tensor("labels") if "labels" in keys else None
        names = json.loads((file.metadata() or {})["names"])
        return Encoding(file.get_tensor("mean"), file.get_tensor("logvar"), labels, names)


def _write_npz(path: Path, encoding: Encoding) -> None:
    arrays = {"mean": encoding.mean.numpy(), "logvar": encoding.logvar.numpy(), "names": np.array(encoding.names, str)}
    if encoding.labels is not None:
        arrays["labels"] = encoding.labels.numpy()
    stream = io.BytesIO()
    np.savez(stream, **arrays)  # type: ignore[arg-type]  # its stub takes the arrays for options
    write_bytes(path, stream.getvalue())


def _read_npz(path: Path) -> Encoding:
    from convae.latents.encoding import Encoding

    with np.load(path, allow_pickle=False) as file:
        labels = torch.from_numpy(file["labels"]) if "labels" in file else None
        mean, logvar = torch.from_numpy(file["mean"]), torch.from_numpy(file["logvar"])
        return Encoding(mean, logvar, labels, file["names"].tolist())
