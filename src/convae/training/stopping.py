"""Ctrl-C and SIGTERM end a training after the running step, not in the middle of it."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType


@dataclass
class Stop:
    """Whether somebody asked the training to end."""

    requested: bool = False


@contextlib.contextmanager
def stop_on_signals(stop: Stop) -> Iterator[None]:
    """Inside the block, the first SIGINT or SIGTERM sets `stop.requested`; a second SIGINT interrupts at once.

    Signals can only be handled in the main thread; in another the block changes nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.requested = True

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
