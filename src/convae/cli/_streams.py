"""Standard output and error whose failures do not end a command.

A closed pipe or terminal, a full disk behind a redirection, a descriptor that was closed before the program began, or
an encoding without `→` must not end a training.
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
"""Errors of a closed pipe or terminal."""


def _replacement(error: UnicodeError) -> tuple[str, int]:
    """Replaces characters that the encoding lacks by ASCII equivalents or `?`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    wanted = error.object[error.start : error.end].translate(_PLAIN)
    return wanted.encode("ascii", "replace").decode("ascii"), error.end


codecs.register_error("convae-plain", _replacement)


class Steady:
    """A text stream that stays silent after its first failure.

    Attributes:
        failure: the first error of writing; None without one, or if the reader closed the stream.

    Args:
        stream: the underlying stream; None if the program was started without one.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._dead = stream is None
        self.failure: OSError | None = None
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="convae-plain")

    def write(self, text: str) -> int:
        """Writes text; errors are recorded."""
        if not self._dead and self._stream is not None:
            with self._noticing():
                self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flushes the stream; errors are recorded."""
        if not self._dead and self._stream is not None:
            with self._noticing():
                self._stream.flush()

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        return not self._dead and is_terminal(self._stream)

    @property
    def encoding(self) -> str:
        """The encoding of the stream."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    @contextlib.contextmanager
    def _noticing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:
            self._dead = True
            if isinstance(error, OSError) and error.errno not in _GONE:
                self.failure = error
            # The rest of the buffer would fail again when the interpreter exits.
            with contextlib.suppress(OSError, ValueError, AttributeError):
                silent = os.open(os.devnull, os.O_WRONLY)
                os.dup2(silent, self._stream.fileno())
                os.close(silent)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def steady_streams() -> Iterator[Steady]:
    """A context in which standard output, which it yields, and standard error do not raise."""
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
    """Opens closed standard descriptors; otherwise the next file would get their number, and the output."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
