"""Latents as files: safetensors, NumPy's npz, or Parquet. None of them ever unpickles anything."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from convae.core.errors import ConfigError, DataError
from convae.core.files import write_bytes
from convae.core.names import unknown

if TYPE_CHECKING:
    from convae.latents.encoding import Encoding

TENSORS = ("mean", "logvar", "codes", "labels")
"""What a file holds for each image beside its name; the last two where there are any."""


def writer(format: str) -> Callable[[Path, Encoding], None]:
    """The function that writes a format.

    Raises:
        ConfigError: no such format, or its package is not installed.
    """
    known = {"safetensors": _safetensors, "npz": _npz, "parquet": _parquet}
    if format not in known:
        raise ConfigError(unknown("format of latents", format, known))
    if format == "parquet":
        _arrow()
    return lambda path, encoding: write_bytes(path, known[format](_tensors(encoding), encoding.names))


def read(path: Path) -> Encoding:
    """The latents in a file.

    Raises:
        DataError: the file is missing, damaged, or holds something else.
        ConfigError: its format needs a package that is not installed.
    """
    from convae.latents.encoding import Encoding

    readers = {".npz": _read_npz, ".parquet": _read_parquet}
    try:
        tensors, names = readers.get(path.suffix, _read_safetensors)(path)
        mean = tensors["mean"]
        if tensors["logvar"].shape != mean.shape or {len(names), *map(len, tensors.values())} != {len(mean)}:
            raise ValueError("what it holds of the images are different numbers")
        return Encoding(mean, tensors["logvar"], tensors.get("labels"), names, tensors.get("codes"))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: damaged, or not a file of latents ({error})") from error


def _tensors(encoding: Encoding) -> dict[str, Tensor]:
    found = {name: getattr(encoding, name) for name in TENSORS}
    return {name: tensor.contiguous() for name, tensor in found.items() if tensor is not None}


def _safetensors(tensors: dict[str, Tensor], names: Sequence[str]) -> bytes:
    content: bytes = save(tensors, {"names": json.dumps(list(names), ensure_ascii=False)})
    return content


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], list[str]]:
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
        return tensors, json.loads((file.metadata() or {})["names"])


def _npz(tensors: dict[str, Tensor], names: Sequence[str]) -> bytes:
    arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in tensors.items()}
    stream = io.BytesIO()
    np.savez(stream, names=np.array(names, str), **arrays)
    return stream.getvalue()


def _read_npz(path: Path) -> tuple[dict[str, Tensor], list[str]]:
    with np.load(path, allow_pickle=False) as file:
        return {name: torch.from_numpy(file[name]) for name in TENSORS if name in file}, file["names"].tolist()


def _arrow() -> Any:
    """The package that reads and writes Parquet."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError("parquet needs a package that is not installed: pip install 'convae[parquet]'") from error
    return pyarrow


def _parquet(tensors: dict[str, Tensor], names: Sequence[str]) -> bytes:
    """A row for each image: `name`, `mean` and `logvar` as lists of all latent values, `codes`, `labels`.

    The shapes that the lists had are in the schema's metadata, under `shapes`.
    """
    arrow = _arrow()
    columns = {"name": arrow.array(list(names), arrow.string())}
    for name, tensor in tensors.items():
        flat = arrow.array(tensor.flatten().numpy())
        rows = tensor[0].numel() if tensor.ndim > 1 else None
        columns[name] = flat if rows is None else arrow.FixedSizeListArray.from_arrays(flat, rows)
    shapes = json.dumps({name: list(tensor.shape[1:]) for name, tensor in tensors.items()})
    stream = io.BytesIO()
    arrow.parquet.write_table(arrow.table(columns).replace_schema_metadata({"shapes": shapes}), stream)
    return stream.getvalue()


def _read_parquet(path: Path) -> tuple[dict[str, Tensor], list[str]]:
    arrow = _arrow()
    # Opened here, so that a missing file is an error of the operating system.
    with path.open("rb") as file:
        table = arrow.parquet.read_table(file).combine_chunks()
    shapes = json.loads((table.schema.metadata or {})[b"shapes"])
    tensors = {}
    for name, shape in shapes.items():
        column = table[name].combine_chunks()
        flat = column.flatten() if shape else column
        tensors[name] = torch.from_numpy(flat.to_numpy(zero_copy_only=False).copy()).view(len(table), *shape)
    return tensors, table["name"].to_pylist()
