"""Failures of the world, such as a share that is away for a moment: tried again, and never held against an image.

What is wrong with an image is remembered with the store; what is wrong with disk, network, memory or the number of
open files passes, and must not cost the image for good.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import TypeVar

from convae.core.errors import DataError

PAUSES = (0.1, 0.2, 0.4, 0.8, 1.6)
"""Seconds before each further try."""
_PROBE = 1 << 28
"""Bytes that can be had where it is not memory that is short: a damaged image may ask for any number of them."""

_OF_THE_FILE = frozenset({errno.EINVAL, errno.EISDIR, errno.EFBIG})
"""Errors that say what a file is: a pipe, a folder, too large."""

_Out = TypeVar("_Out")


def is_of_the_world(error: BaseException) -> bool:
    """Whether an error, or what caused it, is a failure of the system and not of what was read."""
    cause: BaseException | None = error
    while cause is not None:
        # Pillow's own errors are OSErrors, too, without a number of the system.
        if isinstance(cause, OSError) and cause.errno is not None:
            return cause.errno not in _OF_THE_FILE
        if isinstance(cause, MemoryError) or (isinstance(cause, RuntimeError) and "memory" in str(cause)):
            return _memory_is_short()
        cause = cause.__cause__
    return False


def patiently(work: Callable[[], _Out]) -> _Out:
    """The result of `work`, tried again for some seconds while the world fails it.

    Raises:
        Exception: what `work` raises, at once where trying again is no use.
    """
    for pause in PAUSES:
        try:
            return work()
        except Exception as error:
            if not is_of_the_world(error):
                raise
            time.sleep(pause)
    return work()


def world_error(what: str, error: BaseException) -> DataError:
    """The error that ends work which the world failed."""
    reason = str(error).partition("\n")[0] or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        reason = error.strerror
    return DataError(
        f"{what}: {reason}, also after {sum(PAUSES):.0f} seconds: this is not a fault of the image, and nothing is"
        " held against it; what was decoded so far is kept: mend the cause and run the command again"
    )


def _memory_is_short() -> bool:
    try:
        bytearray(_PROBE)
    except MemoryError:
        return True
    return False
