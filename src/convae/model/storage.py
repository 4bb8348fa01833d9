"""The dtype of weights in memory and in the file of an artifact."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from convae.core.errors import ArtifactError, ConfigError
from convae.core.names import short_repr

DtypeName = Literal["float16", "bfloat16", "float32", "float64"]
StoragePrecision = Literal["float16", "bfloat16"]
Storage = StoragePrecision | Mapping[str, StoragePrecision] | None
DTYPES: dict[DtypeName, torch.dtype] = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
}


def dtype_name(tensors: Mapping[str, Tensor]) -> DtypeName:
    """The floating-point dtype of a model's tensors; integers are stored unchanged.

    Raises:
        ArtifactError: several dtypes, or an unsupported one.
    """
    floating = [(name, tensor) for name, tensor in tensors.items() if tensor.is_floating_point()]
    types = {tensor.dtype: name for name, tensor in reversed(floating)}
    known = {dtype: precision for precision, dtype in DTYPES.items()}
    for dtype, name in types.items():
        if dtype not in known:
            raise ArtifactError(
                f"tensor '{name}' is {dtype}, which cannot be saved. Convert the model, for example with model.float()"
            )
    if len(types) > 1:
        (one, first), (other, second), *_ = types.items()
        raise ArtifactError(
            f"tensor '{first}' is {one} and '{second}' is {other}. Convert all of it, such as model.float()"
        )
    return known[next(iter(types))] if types else "float32"


def to_file_dtypes(tensors: Mapping[str, Tensor], storage: Storage) -> dict[str, Tensor]:
    """Floating-point tensors in the dtype of the file; others unchanged.

    Raises:
        ConfigError: `storage` names a tensor that is not there.
        ArtifactError: a value is too large for its dtype.
    """
    unknown = set() if storage is None or isinstance(storage, str) else storage.keys() - tensors.keys()
    if unknown:
        raise ConfigError(f"storage: the model has no tensor {short_repr(min(unknown))}")
    rounded = {name: tensor.to(file_dtype(name, tensor, storage)) for name, tensor in tensors.items()}
    for name, tensor in rounded.items():
        if not bool(tensor.isfinite().all()):
            half = str(tensor.dtype).removeprefix("torch.")
            raise ArtifactError(f"tensor {short_repr(name)}: has values too large for {half}. Use storage bfloat16")
    return rounded


def file_dtype(name: str, tensor: Tensor, storage: Storage) -> torch.dtype:
    """The dtype of a tensor in the file."""
    half = storage if storage is None or isinstance(storage, str) else storage.get(name)
    return tensor.dtype if half is None or not tensor.is_floating_point() else DTYPES[half]
