"""Retries of transient failures, such as an unreachable network drive, which must not mark an image as unreadable.

Errors of an image are recorded in the store; failures of disk, network, memory or file handles are temporary.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import TypeVar

from convae.core.errors import DataError

PAUSES = (0.1, 0.2, 0.4, 0.8, 1.6)
"""Seconds before each further attempt."""
_PROBE = 1 << 28
"""Size of a test allocation, in bytes: if it succeeds, a damaged image asked for too much memory."""

_OF_THE_FILE = frozenset({errno.EINVAL, errno.EISDIR, errno.EFBIG})
"""Errors about the kind of a file: a pipe, a folder, too large."""

_Out = TypeVar("_Out")


def is_transient(error: BaseException) -> bool:
    """Whether an error or its cause is a failure of the system, not of the data."""
    cause: BaseException | None = error
    while cause is not None:
        # Pillow's own errors are OSErrors without an errno.
        if isinstance(cause, OSError) and cause.errno is not None:
            return cause.errno not in _OF_THE_FILE
        if isinstance(cause, MemoryError) or (isinstance(cause, RuntimeError) and "memory" in str(cause)):
            return _memory_is_short()
        cause = cause.__cause__
    return False


def retry(work: Callable[[], _Out]) -> _Out:
    """Calls `work`, and repeats it for some seconds after transient failures.

    Raises:
        Exception: the error of `work`, immediately if it is not transient.
    """
    for pause in PAUSES:
        try:
            return work()
        except Exception as error:
            if not is_transient(error):
                raise
            time.sleep(pause)
    return work()


def transient_error(what: str, error: BaseException) -> DataError:
    """The error after repeated transient failures."""
    reason = str(error).partition("\n")[0] or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        reason = error.strerror
    return DataError(
        f"{what}: {reason}, after retries for {sum(PAUSES):.0f} seconds. The cause is not the image. Fix it and run the"
        " command again; decoded images are kept"
    )


def _memory_is_short() -> bool:
    try:
        bytearray(_PROBE)
    except MemoryError:
        return True
    return False
