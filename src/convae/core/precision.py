"""Numeric precision of sums, variances and differences."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor


def cpu_has(instructions: str) -> bool:
    """Whether torch's kernels on this CPU use an instruction set, by its name in `torch.cpu.get_capabilities()`.

    `ATEN_CPU_CAPABILITY` can limit the kernels to less than the processor has: then AVX-512 and AMX do not count.
    """
    is_wide = instructions.startswith(("avx512", "amx"))
    if is_wide and torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    return bool(torch.cpu.get_capabilities().get(instructions, False))


def at_least_float32(tensor: Tensor) -> Tensor:
    """`tensor` in float32 or wider; half precision has 8 or 11 significant bits, too few for sums over many values."""
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


def with_gradient_of(value: Tensor, other: Tensor) -> Tensor:
    """`value` with a straight-through gradient to `other` (Bengio et al. 2013)."""
    return value.detach() + (other - other.detach())


def full_precision(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """A context in which matrix products use the full precision of their factors."""
    if not torch.amp.is_autocast_available(device.type):
        return contextlib.nullcontext()
    return torch.autocast(device.type, enabled=False)
