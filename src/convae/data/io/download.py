"""Downloads from several mirrors: resumable, verified, and renamed only when complete.

    NAME ── lock ──> .NAME.part (grows, Range) ── size and digest ──> NAME

A partial file of an earlier call or another process is resumed; one with a wrong digest is deleted.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import Any, BinaryIO, Literal

from filelock import FileLock

from convae.core.errors import DataError
from convae.core.files import writing_errors
from convae.core.progress import Progress
from convae.core.version import VERSION

TIMEOUT = 30.0
"""Timeout without data, in seconds."""
TRIES = 5
"""Number of attempts per mirror; only attempts without progress count."""
PAUSE = 1.0
"""Seconds before the second attempt; doubled for each further one."""
LONGEST_PAUSE = 60.0
"""Longest wait between attempts, in seconds."""
_LARGEST = 4 << 30
"""Size limit of a file of unknown size, in bytes."""
_PIECE = 1 << 18


@dataclass(frozen=True)
class Remote:
    """A published file.

    Attributes:
        name: local file name.
        urls: mirrors, in order of preference.
        digest: published digest, in hex.
        algorithm: algorithm of the digest; `git` is that of a blob, SHA-1 with its size before the content.
        size: bytes; None if not published.
        token: access token, sent to the hosts of `urls` alone and not to those that they redirect to.
    """

    name: str
    urls: tuple[str, ...]
    digest: str
    algorithm: Literal["sha256", "md5", "git"] = "sha256"
    size: int | None = None
    token: str | None = field(default=None, repr=False)


class DownloadError(DataError):
    """No mirror provided a file.

    Attributes:
        status: HTTP status of the last refusal; None if the last failure was another one.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class _TransferError(Exception):
    """A failed attempt.

    Attributes:
        final: whether another attempt at this mirror is useless.
        pause: seconds to wait, as requested by the server.
        status: HTTP status, if the server refused the request.
    """

    def __init__(self, message: str, *, final: bool = False, pause: float = 0.0, status: int | None = None) -> None:
        super().__init__(message)
        self.final, self.pause, self.status = final, pause, status


def download(remotes: Sequence[Remote], folder: Path, progress: Progress | None = None) -> None:
    """Downloads files into a folder, each atomically; existing ones are kept.

    Raises:
        DownloadError: no mirror provided a file; the message lists the reasons.
        OutputError: the folder cannot be written.
    """
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    with writing_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            for remote in remotes:
                place, part, lock = (
                    folder / name for name in (remote.name, f".{remote.name}.part", f".{remote.name}.lock")
                )
                with FileLock(lock):
                    if not place.exists():
                        _get(remote, part, progress)
                        part.rename(place)
        except BaseException:
            _remove_empty(folder, remotes, new)
            raise


def fetch(url: str, largest: int, token: str | None = None) -> bytes:
    """Requests a short document, such as a list of files, with the same attempts as a download.

    Args:
        url: address of the document.
        largest: size limit, in bytes.
        token: access token; see `Remote`.

    Raises:
        DownloadError: it cannot be reached, is refused, or is larger.
    """
    failures = 0
    while True:
        try:
            with _open(url, token, {"Accept": "application/json"}) as response, _network():
                content = response.read(largest + 1)
            if len(content) > largest:
                raise _TransferError(f"sent more than {largest:,} bytes", final=True)
            return content
        except _TransferError as error:
            failures += 1
            if error.final or failures >= TRIES:
                raise DownloadError(str(error), error.status) from error
            _wait(error, failures)


def _wait(error: _TransferError, failures: int) -> None:
    """Waits before the next attempt, as long as the server requests."""
    time.sleep(min(max(error.pause, PAUSE * 2 ** (failures - 1)), LONGEST_PAUSE))


def _open(url: str, token: str | None, headers: dict[str, str]) -> http.client.HTTPResponse:
    """Sends a request.

    Raises:
        _TransferError: the server is unreachable or refused the request.
    """
    request = urllib.request.Request(url, headers={"User-Agent": f"convae/{VERSION}", **headers})
    if token is not None:
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    try:
        with _network():
            response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT)
            return response
    except urllib.error.HTTPError as error:
        with error:
            raise _refusal(error) from error


def _remove_empty(folder: Path, remotes: Sequence[Remote], new: Sequence[Path]) -> None:
    """Removes the folders that a failed download created, unless they contain partial files."""
    with contextlib.suppress(OSError):
        for remote in remotes:
            part = folder / f".{remote.name}.part"
            if part.exists() and part.stat().st_size == 0:
                part.unlink()
            if not part.exists():
                (folder / f".{remote.name}.lock").unlink(missing_ok=True)
        for path in new:
            path.rmdir()


def _get(remote: Remote, part: Path, progress: Progress | None) -> None:
    """Downloads and verifies a file into `part`."""
    reasons: list[str] = []
    status = None
    for url in remote.urls:
        failures = 0
        while True:
            before = part.stat().st_size if part.exists() else 0
            try:
                _transfer(url, remote, part, progress)
                _verify(remote, part)
                return
            except _TransferError as error:
                now = part.stat().st_size if part.exists() else 0
                # Attempts with progress do not count.
                failures = failures + 1 if now <= before else 1
                if error.final or failures >= TRIES:
                    # The query of a URL may be a signature that grants access.
                    reasons.append(f"{url.partition('?')[0]}: {error}")
                    status = error.status
                    break
                _wait(error, failures)
    raise DownloadError("; ".join(reasons), status)


def _transfer(url: str, remote: Remote, part: Path, progress: Progress | None) -> None:
    """Resumes `part` from one mirror, up to the end of the file."""
    have = part.stat().st_size if part.exists() else 0
    if remote.size is not None and have >= remote.size:
        return
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        response = _open(url, remote.token, headers)
    except _TransferError as error:
        if error.status == 416:  # the partial file is longer than the remote one, so it belongs to another file
            part.unlink(missing_ok=True)
            raise _TransferError("the file is smaller than the partial download", status=416) from error
        raise
    with response:
        start, end = _span(response.status, response.headers, have)
        total = remote.size or end
        if total is not None and total > (remote.size or _LARGEST):
            raise _TransferError(f"the file of {total:,} bytes is too large", final=True)
        with part.open("r+b" if start else "wb") as file:
            file.seek(start)
            _pour(response, file, start, total, remote, progress)
        if end is not None and part.stat().st_size < end:
            raise _TransferError(f"connection lost after {part.stat().st_size:,} of {end:,} bytes")


@contextlib.contextmanager
def _network() -> Iterator[None]:
    """A context for network calls only; system errors in it become `_TransferError`.

    Raises:
        _TransferError: the server is unreachable or closed the connection.
        HTTPError: the server returned an error status.
    """
    try:
        yield
    except urllib.error.HTTPError:
        raise
    except TimeoutError as error:
        raise _TransferError(f"no data for {TIMEOUT:g} seconds") from error
    except urllib.error.URLError as error:
        timed_out = isinstance(error.reason, TimeoutError)
        reason = f"no data for {TIMEOUT:g} seconds" if timed_out else str(error.reason)
        raise _TransferError(f"cannot be reached ({reason})") from error
    except (http.client.HTTPException, OSError, ValueError) as error:
        raise _TransferError(f"network error ({error or type(error).__name__})") from error


def _span(status: int, headers: Message, have: int) -> tuple[int, int | None]:
    """Offset of the response in the file, and the end of the file, if known."""
    length = headers.get("Content-Length", "")
    size = int(length) if length.isdigit() else None
    if (headers.get_content_type() or "") == "text/html":
        raise _TransferError("returned a web page instead of the file", final=True)
    if status != 206:
        return 0, size
    unit, _, rest = headers.get("Content-Range", "").partition(" ")
    span, _, whole = rest.partition("/")
    start = span.partition("-")[0]
    if unit != "bytes" or start != str(have):
        raise _TransferError("returned a different range than requested", final=True)
    return have, int(whole) if whole.isdigit() else None if size is None else have + size


def _pour(
    response: http.client.HTTPResponse,
    file: BinaryIO,
    start: int,
    total: int | None,
    remote: Remote,
    progress: Progress | None,
) -> None:
    """Copies the response to the file, up to the size limit."""
    done, limit = start, total or _LARGEST
    what = f"downloading {remote.name} (MB)"
    while piece := _received(response):
        done += len(piece)
        if done > limit:
            file.truncate(0)
            raise _TransferError(f"sent more than the {limit:,} bytes of the file", final=True)
        file.write(piece)
        if progress is not None:
            progress(done >> 20, max(limit if total else done, 1) >> 20, what)


def _received(response: http.client.HTTPResponse) -> bytes:
    """The next bytes of a response; empty at its end."""
    with _network():
        return response.read1(_PIECE)


def _refusal(error: urllib.error.HTTPError) -> _TransferError:
    """The error of a refused request: final or temporary, depending on the status."""
    passing = error.code in {408, 425, 429} or error.code >= 500
    wait = error.headers.get("Retry-After", "") if error.headers else ""
    pause = float(wait) if wait.isdigit() else 0.0
    return _TransferError(f"HTTP {error.code} {error.reason}", final=not passing, pause=pause, status=error.code)


def _verify(remote: Remote, part: Path) -> None:
    """Checks size and digest, and syncs the file; a wrong file is removed."""
    with part.open("rb") as file:
        found = hashlib.file_digest(file, lambda: _begin_digest(remote.algorithm, part)).hexdigest()
        os.fsync(file.fileno())
    if found != remote.digest:
        size = part.stat().st_size
        with contextlib.suppress(FileNotFoundError):
            part.unlink()
        raise _TransferError(f"damaged or a different file ({size:,} bytes, {remote.algorithm} {found})")


def _begin_digest(algorithm: str, part: Path) -> Any:
    """A digest before the first byte of a file."""
    found = hashlib.new("sha1" if algorithm == "git" else algorithm, usedforsecurity=False)
    if algorithm == "git":
        found.update(b"blob %d\0" % part.stat().st_size)
    return found
