"""How much of the machine's processors other processes use."""

from __future__ import annotations

import os
import time
from pathlib import Path

STATISTICS = Path("/proc/stat")
"""Where Linux counts the time of all processors; other systems do not have it."""
_COMPUTING = (0, 1, 2, 5, 6)
"""Its columns without those that count idle time, waiting for disks, and other virtual machines."""


class OtherProcesses:
    """The processors that other processes use, on average since this object was made."""

    def __init__(self) -> None:
        self._busy, self._own, self._began = _busy_seconds(), time.process_time(), time.monotonic()

    def cores(self) -> float:
        """Number of cores; 0 where the system does not state it."""
        busy, own = _busy_seconds() - self._busy, time.process_time() - self._own
        return max(0.0, busy - own) / max(time.monotonic() - self._began, 1e-9)


def _busy_seconds() -> float:
    """Seconds in which processors computed since the machine started, all processors together."""
    if not STATISTICS.exists():
        return 0.0
    columns = STATISTICS.read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    return sum(int(columns[number]) for number in _COMPUTING) / int(os.sysconf("SC_CLK_TCK"))
