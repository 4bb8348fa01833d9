"""Tests that run on a GPU (marked `gpu`, by `benchmarks/gpu.sh`), and are rehearsed on the CPU by the suite."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

on_gpu = pytest.mark.gpu
on_devices = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])


class _NoWaiting(TorchDispatchMode):
    """Refuses operations whose results the host reads, or whose shapes depend on values: on a GPU it would wait."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func).removeprefix("aten.").partition(".")[0]
        assert name not in ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "is_nonzero"), name
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def without_waiting(device: str) -> Iterator[None]:
    """Inside the block, it is an error if the host waits for the device."""
    if device == "cpu":
        with _NoWaiting():  # type: ignore[no-untyped-call]
            yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@contextlib.contextmanager
def deterministic(device: str) -> Iterator[None]:
    """Torch's deterministic algorithms, which a GPU does not use by default."""
    torch.use_deterministic_algorithms(device == "cuda")
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextlib.contextmanager
def exact_float32(device: str) -> Iterator[None]:
    """Convolutions in float32 without tf32, which cuDNN uses by default."""
    if device == "cpu":
        yield
        return
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield
