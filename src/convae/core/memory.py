"""Recognition of out-of-memory errors, which libraries raise under many names."""

from __future__ import annotations

import errno
import sys

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
