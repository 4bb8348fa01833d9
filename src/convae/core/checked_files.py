"""JSON and safetensors files that carry SHA-256 checksums: artifacts and checkpoints are made of them."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from convae.core.errors import ArtifactError
from convae.core.files import open_regular, read_bytes, utf8_path
from convae.core.names import one_line, shape_text, short_repr

_CHECKSUM = "config_sha256"
_LARGEST = 64 << 20
"""Bytes of the largest configuration or state that is read."""
_HEADER = 1 << 16
"""Bytes of the header of a file of weights, beside those for each tensor."""
_HEADER_OF_TENSOR = 400
"""Bytes of a tensor's entry there, beside its name."""
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
    """Checks that weights and statistics are numbers.

    Raises:
        ArtifactError: one holds NaN or infinity.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ArtifactError(
                f"{whose}: tensor {short_repr(name)} holds NaN or infinity, so the model has diverged: train it again "
                "with a lower learning rate, or take an earlier checkpoint"
            )


def digest(tensor: Tensor) -> str:
    """SHA-256 of a tensor's dtype, shape and bytes."""
    flat = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
    head = f"{tensor.dtype} {tuple(tensor.shape)} ".encode()
    found = hashlib.sha256(head)
    found.update(flat.numpy().data)
    return found.hexdigest()


def read_tensors(path: Path, sha256: Mapping[str, str]) -> dict[str, Tensor]:
    """The tensors of a safetensors file, each checked.

    Raises:
        ArtifactError: the file is missing or damaged, or its tensors are not those with these SHA-256.
    """
    with open_tensors(path, sha256) as file:
        return read_checked_tensors(file, path, sha256)


@contextlib.contextmanager
def open_tensors(path: Path, sha256: Mapping[str, str]) -> Iterator[Any]:
    """A safetensors file whose header is no larger than so many tensors need.

    Raises:
        ArtifactError: the file is missing or damaged.
    """
    try:
        with open_regular(path) as head:  # A pipe or a device would be waited for.
            header = int.from_bytes(head.read(8), "little")
        if header > _HEADER + sum(len(json.dumps(name)) + _HEADER_OF_TENSOR for name in sha256):
            raise ArtifactError(f"{path}: damaged, or holds more tensors than its description")
        with utf8_path(path) as name, safe_open(name, framework="pt") as file:
            yield file
    except (OSError, SafetensorError, ValueError, RuntimeError) as error:
        raise ArtifactError(f"{path}: damaged or not a safetensors file ({one_line(error)})") from error


def read_checked_tensors(
    file: Any, path: Path, sha256: Mapping[str, str], expected: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """The tensors of an opened file. Types and shapes are compared with `expected` before any of them is read.

    Raises:
        ArtifactError: they are not those with these SHA-256, or not of these types and shapes.
    """
    names = set(file.keys())
    for name in sorted(names & sha256.keys()):
        _require_alike(file.get_slice(name), None if expected is None else expected[name], f"{path}: {name}")
    # Copies: what is mapped from the file would change with it after it was checked.
    tensors = {name: file.get_tensor(name).clone() for name in sorted(names)}
    for name, tensor in tensors.items():
        if sha256.get(name) != digest(tensor):
            raise ArtifactError(f"{path}: tensor {short_repr(name)} is damaged: its SHA-256 is not the recorded one")
    if missing := sha256.keys() - tensors.keys():
        raise ArtifactError(f"{path}: tensor {short_repr(min(missing))} is missing")
    return tensors


def _require_alike(stored: Any, expected: Tensor | None, where: str) -> None:
    """Checks the type and the shape of a tensor in a file.

    Raises:
        ArtifactError: it has another.
    """
    if expected is None:
        return
    if stored.get_dtype() != _STORED_TYPES.get(expected.dtype):
        raise ArtifactError(f"{where}: its type is {stored.get_dtype()}, where {expected.dtype} is needed")
    if tuple(stored.get_shape()) != tuple(expected.shape):
        got, wanted = (shape_text(shape) or "a single number" for shape in (stored.get_shape(), expected.shape))
        raise ArtifactError(f"{where}: expected the shape {wanted}, got {got}")


def with_checksum(content: Mapping[str, Any]) -> dict[str, Any]:
    """What a JSON file says, with a SHA-256 of it, which `read_checked_json` checks."""
    return {**content, _CHECKSUM: hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()}


def read_checked_json(path: Path, newest: int) -> dict[str, Any]:
    """The content of a JSON file that `with_checksum` made, without its checksum.

    Args:
        path: the file.
        newest: the latest `format` of it that is known.

    Raises:
        ArtifactError: it is missing, damaged, edited, or of a later format.
    """
    try:
        content = json.loads(read_bytes(path, _LARGEST))
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path}: damaged or unreadable ({one_line(error)})") from error
    if not isinstance(content, dict) or not isinstance(content.get("format"), int):
        raise ArtifactError(f"{path}: damaged, or not a file of convae")
    if content["format"] > newest:
        raise ArtifactError(f"{path}: format {content['format']} is newer than this version of convae reads ({newest})")
    recorded = content.pop(_CHECKSUM, None)
    if recorded != with_checksum(content)[_CHECKSUM]:
        raise ArtifactError(f"{path}: damaged or edited: its SHA-256 is not the recorded one")
    return content
