"""Free memory, and recognition of out-of-memory errors, which libraries raise under many names."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from convae.core.errors import ConfigError

if TYPE_CHECKING:
    import torch

_PRIMITIVE = "could not create a primitive"
"""The entire message of oneDNN when it cannot allocate; other failures have longer ones."""
_WORDS = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "cannot allocate memory",
    "could not create a memory object",
    "failed to allocate",
    "bad_alloc",
    "bad allocation",
    "cublas_status_alloc_failed",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` was raised because memory could not be allocated, on the host or on a GPU."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    # Does not import torch for commands that do not use it.
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    text = str(error).strip().lower()
    found = text == _PRIMITIVE or any(words in text for words in _WORDS)
    return isinstance(error, RuntimeError) and found


def free_memory(device: torch.device) -> int:
    """Free memory in bytes: of the GPU, or of the machine or the part of it that the process may have.

    Raises:
        ConfigError: the machine does not state it.
    """
    import torch

    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines() if Path("/proc/meminfo").exists() else []
    found = [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    for name, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        limit, current = Path("/sys/fs/cgroup") / name, Path("/sys/fs/cgroup") / used
        if limit.exists() and current.exists() and (text := limit.read_text(encoding="ascii").strip()).isdigit():
            found.append(int(text) - int(current.read_text(encoding="ascii")))
    if not found:
        raise ConfigError("this machine does not say how much memory is free: give --memory")
    return min(found)
