"""Standard output and error that never end the work whose progress and results are printed there.

A pipe whose reader has gone, a closed terminal, a full disk behind a redirection, a descriptor that was closed before
the program began, an encoding without `→`: none of these is a reason to lose a training.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import Any

from convae.core.console import is_terminal

_PLAIN = str.maketrans(
    {"→": "->", "×": "x", "…": "...", "−": "-", "–": "-", "—": "-", "≥": ">=", "≤": "<=", "·": "*", "²": "^2"}
    | {"β": "beta", "σ": "sigma", "μ": "mu", "Δ": "delta", "’": "'", "‘": "'", "“": '"', "”": '"', "█": "#", "━": "-"}
)
_GONE = {errno.EPIPE, errno.EIO, errno.EBADF, errno.ESHUTDOWN}
"""What says that nobody reads any more: a closed pipe or terminal."""


def _replacement(error: UnicodeError) -> tuple[str, int]:
    """What an encoding cannot hold, in plain characters where there are some, and as `?` otherwise."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    wanted = error.object[error.start : error.end].translate(_PLAIN)
    return wanted.encode("ascii", "replace").decode("ascii"), error.end


codecs.register_error("convae-plain", _replacement)


class Steady:
    """A text stream that stays silent after its first failure.

    Attributes:
        failure: what went wrong when something was written; None where nothing did, or where the reader had gone.

    Args:
        stream: where text goes; None where the program was started without one.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._dead = stream is None
        self.failure: OSError | None = None
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="convae-plain")

    def write(self, text: str) -> int:
        """Writes text, as far as anybody takes it."""
        if not self._dead and self._stream is not None:
            with self._noticing():
                self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Hands over what was written."""
        if not self._dead and self._stream is not None:
            with self._noticing():
                self._stream.flush()

    def isatty(self) -> bool:
        """Whether a person is looking at a terminal there."""
        return not self._dead and is_terminal(self._stream)

    @property
    def encoding(self) -> str:
        """The stream's encoding."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    @contextlib.contextmanager
    def _noticing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:
            self._dead = True
            if isinstance(error, OSError) and error.errno not in _GONE:
                self.failure = error
            # What still lies in the stream's buffer would fail again when the interpreter ends.
            with contextlib.suppress(OSError, ValueError, AttributeError):
                silent = os.open(os.devnull, os.O_WRONLY)
                os.dup2(silent, self._stream.fileno())
                os.close(silent)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def steady_streams() -> Iterator[Steady]:
    """Inside the block, standard output (which it gives) and error are steady."""
    _occupy_standard_descriptors()
    before = sys.stdout, sys.stderr
    output, errors = Steady(before[0]), Steady(before[1])
    sys.stdout, sys.stderr = output, errors
    try:
        yield output
    finally:
        output.flush()
        errors.flush()
        sys.stdout, sys.stderr = before


def _occupy_standard_descriptors() -> None:
    """Opens standard descriptors that are closed: the next file would take their number, and get what is printed."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
