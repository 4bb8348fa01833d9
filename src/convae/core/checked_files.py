"""JSON and safetensors files with SHA-256 checksums, for artifacts and checkpoints."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from convae.core.errors import ArtifactError, ConvaeError
from convae.core.files import open_regular, read_bytes, utf8_path
from convae.core.names import one_line, shape_text, short_repr

_CHECKSUM = "config_sha256"
_LARGEST = 64 << 20
"""Size limit of a JSON file, in bytes."""
_HEADER = 1 << 16
"""Size limit of the header of a weights file without its tensor entries, in bytes."""
_HEADER_OF_TENSOR = 400
"""Size limit of one tensor entry of the header without the name, in bytes."""
_OF_THE_FILE = frozenset({errno.EINVAL, errno.EISDIR, errno.ELOOP, errno.EFBIG})
"""Errors that say what a file is: a pipe, a folder, a circle of links, too large."""
_STORED_TYPES = {
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float32: "F32",
    torch.float64: "F64",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def require_finite(tensors: Mapping[str, Tensor], whose: str) -> None:
    """Checks that weights and statistics are finite, and running variances not negative.

    Raises:
        ArtifactError: a tensor contains NaN, infinity or a negative variance.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ArtifactError(
                f"{whose}: tensor {short_repr(name)} contains NaN or infinity; the training diverged. Use a lower "
                "learning rate or an earlier checkpoint"
            )
        if name.endswith("running_var") and bool((tensor < 0).any()):
            raise ArtifactError(f"{whose}: tensor {short_repr(name)} contains negative variances")


def digest(tensor: Tensor) -> str:
    """SHA-256 of a tensor's dtype, shape and bytes."""
    flat = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
    head = f"{tensor.dtype} {tuple(tensor.shape)} ".encode()
    found = hashlib.sha256(head)
    found.update(flat.numpy().data)
    return found.hexdigest()


def read_tensors(path: Path, sha256: Mapping[str, str]) -> dict[str, Tensor]:
    """Reads the tensors of a safetensors file and checks each of them.

    Raises:
        ArtifactError: the file is missing or damaged, or a checksum does not match.
        ConvaeError: the system cannot read it now.
    """
    with open_tensors(path, sha256) as file:
        return read_checked_tensors(file, path, sha256)


@contextlib.contextmanager
def open_tensors(path: Path, sha256: Mapping[str, str]) -> Iterator[Any]:
    """Opens a safetensors file whose header is no larger than its number of tensors needs.

    Raises:
        ArtifactError: the file is missing or damaged.
        ConvaeError: the system cannot read it now.
    """
    try:
        with open_regular(path) as head:  # Opening a pipe or a device would block.
            header = int.from_bytes(head.read(8), "little")
        if header > _HEADER + sum(len(json.dumps(name)) + _HEADER_OF_TENSOR for name in sha256):
            raise ArtifactError(f"{path}: damaged, or contains more tensors than its description lists")
        with utf8_path(path) as name, safe_open(name, framework="pt") as file:
            yield file
    except (OSError, SafetensorError, ValueError, RuntimeError) as error:
        _raise_if_unreadable(path, error)
        raise ArtifactError(f"{path}: damaged or not a safetensors file ({one_line(error)})") from error


def _raise_if_unreadable(path: Path, error: Exception) -> None:
    """Tells a failure of the system from damage: a damaged checkpoint is passed over, and some are removed.

    Raises:
        ArtifactError: there is no such file.
        ConvaeError: the system failed, for instance with an input/output error or too many open files.
    """
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        raise ArtifactError(f"{path}: is missing") from error
    if isinstance(error, OSError) and error.errno is not None and error.errno not in _OF_THE_FILE:
        raise ConvaeError(f"{path}: cannot be read ({error.strerror}). Nothing was changed; try again") from error


def read_checked_tensors(
    file: Any, path: Path, sha256: Mapping[str, str], expected: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """Reads the tensors of an open file. Types and shapes are compared with `expected` before data is read.

    Raises:
        ArtifactError: a checksum, type or shape does not match, or a tensor is missing.
    """
    names = set(file.keys())
    for name in sorted(names & sha256.keys()):
        _require_same_type(file.get_slice(name), None if expected is None else expected[name], f"{path}: {name}")
    # Copies, because mapped tensors would change with the file after the check.
    tensors = {name: file.get_tensor(name).clone() for name in sorted(names)}
    for name, tensor in tensors.items():
        if sha256.get(name) != digest(tensor):
            raise ArtifactError(
                f"{path}: tensor {short_repr(name)} is damaged: its SHA-256 differs from the recorded one"
            )
    if missing := sha256.keys() - tensors.keys():
        raise ArtifactError(f"{path}: tensor {short_repr(min(missing))} is missing")
    return tensors


def _require_same_type(stored: Any, expected: Tensor | None, where: str) -> None:
    """Checks the type and the shape of a stored tensor.

    Raises:
        ArtifactError: one of them differs.
    """
    if expected is None:
        return
    if stored.get_dtype() != _STORED_TYPES.get(expected.dtype):
        raise ArtifactError(f"{where}: expected the type {expected.dtype}, got {stored.get_dtype()}")
    if tuple(stored.get_shape()) != tuple(expected.shape):
        got, wanted = (shape_text(shape) or "scalar" for shape in (stored.get_shape(), expected.shape))
        raise ArtifactError(f"{where}: expected the shape {wanted}, got {got}")


def with_checksum(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a JSON file with its SHA-256 added, which `read_checked_json` checks."""
    return {**content, _CHECKSUM: hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()}


def read_checked_json(path: Path, newest: int) -> dict[str, Any]:
    """Reads a JSON file made by `with_checksum`; the checksum is removed.

    Args:
        path: the file.
        newest: the latest supported value of `format`.

    Raises:
        ArtifactError: the file is missing, damaged, edited, or of a later format.
        ConvaeError: the system cannot read it now.
    """
    try:
        content = json.loads(read_bytes(path, _LARGEST))
    except (OSError, ValueError, RecursionError) as error:
        _raise_if_unreadable(path, error)
        raise ArtifactError(f"{path}: damaged or unreadable ({one_line(error)})") from error
    if not isinstance(content, dict) or not isinstance(content.get("format"), int):
        raise ArtifactError(f"{path}: damaged, or not a file of convae")
    if content["format"] > newest:
        raise ArtifactError(
            f"{path}: format {content['format']} is newer than format {newest}, the latest this version reads. "
            "Update convae"
        )
    recorded = content.pop(_CHECKSUM, None)
    if recorded != with_checksum(content)[_CHECKSUM]:
        raise ArtifactError(f"{path}: damaged or edited: its SHA-256 differs from the recorded one")
    return content
