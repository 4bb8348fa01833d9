"""Requests over HTTP, and the errors of a failed attempt."""

from __future__ import annotations

import contextlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Iterator
from email.message import Message

from convae.core.version import VERSION

TIMEOUT = 30.0
"""Timeout without data, in seconds."""
_PIECE = 1 << 18


class TransferError(Exception):
    """A failed attempt.

    Attributes:
        final: whether another attempt at this mirror is useless.
        pause: seconds to wait, as requested by the server.
        status: HTTP status, if the server refused the request.
    """

    def __init__(self, message: str, *, final: bool = False, pause: float = 0.0, status: int | None = None) -> None:
        super().__init__(message)
        self.final, self.pause, self.status = final, pause, status


def open_url(url: str, token: str | None, headers: dict[str, str]) -> http.client.HTTPResponse:
    """Sends a request.

    Raises:
        TransferError: the server is unreachable or refused the request.
    """
    request = urllib.request.Request(url, headers={"User-Agent": f"convae/{VERSION}", **headers})
    if token is not None:
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    try:
        with network_errors():
            response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT)
            return response
    except urllib.error.HTTPError as error:
        with error:
            raise _refusal(error) from error


@contextlib.contextmanager
def network_errors() -> Iterator[None]:
    """A context for network calls only; system errors in it become `TransferError`.

    Raises:
        TransferError: the server is unreachable or closed the connection.
        HTTPError: the server returned an error status.
    """
    try:
        yield
    except urllib.error.HTTPError:
        raise
    except TimeoutError as error:
        raise TransferError(f"no data for {TIMEOUT:g} seconds") from error
    except urllib.error.URLError as error:
        timed_out = isinstance(error.reason, TimeoutError)
        reason = f"no data for {TIMEOUT:g} seconds" if timed_out else str(error.reason)
        raise TransferError(f"cannot be reached ({reason})") from error
    except (http.client.HTTPException, OSError, ValueError) as error:
        raise TransferError(f"network error ({error or type(error).__name__})") from error


def response_span(status: int, headers: Message, have: int) -> tuple[int, int | None]:
    """Offset of the response in the file, and the end of the file, if known."""
    length = headers.get("Content-Length", "")
    size = int(length) if length.isdigit() else None
    if (headers.get_content_type() or "") == "text/html":
        raise TransferError("returned a web page instead of the file", final=True)
    if status != 206:
        return 0, size
    unit, _, rest = headers.get("Content-Range", "").partition(" ")
    span, _, whole = rest.partition("/")
    start = span.partition("-")[0]
    if unit != "bytes" or start != str(have):
        raise TransferError("returned a different range than requested", final=True)
    return have, int(whole) if whole.isdigit() else None if size is None else have + size


def read_piece(response: http.client.HTTPResponse) -> bytes:
    """The next bytes of a response; empty at its end."""
    with network_errors():
        return response.read1(_PIECE)


def _refusal(error: urllib.error.HTTPError) -> TransferError:
    """The error of a refused request: final or temporary, depending on the status."""
    passing = error.code in {408, 425, 429} or error.code >= 500
    wait = error.headers.get("Retry-After", "") if error.headers else ""
    pause = float(wait) if wait.isdigit() else 0.0
    return TransferError(f"HTTP {error.code} {error.reason}", final=not passing, pause=pause, status=error.code)
