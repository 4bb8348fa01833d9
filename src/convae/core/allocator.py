"""Memory that is kept instead of being given back to the kernel and faulted in again at every step."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_KEPT = 2**31 - 1
_PAD = 256 << 20


def keep_freed_memory() -> bool:
    """Tells the C library to keep freed memory for the next allocation of this process.

    glibc returns each large block to the kernel when it is freed, and the kernel clears it when it is taken again:
    a training step that allocates its activations anew spends a third of its time there. The settings last as long
    as the process; its memory use stays at its peak.

    Returns:
        Whether the C library is one that can be told (glibc); elsewhere nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return all(mallopt(option, value) for option, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _KEPT), (_TOP_PAD, _PAD)))
