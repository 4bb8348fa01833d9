"""Downloads: resumed where they broke off, from several mirrors, checked, and in place only when whole.

    NAME ── lock ──> .NAME.part (grows, Range) ── size and digest ──> NAME

A part that another process or an earlier call left is gone on with; one whose digest turns out wrong is thrown away.
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
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import BinaryIO, Literal

from filelock import FileLock

from convae.core.errors import DataError
from convae.core.files import writing_errors
from convae.core.progress import Progress
from convae.core.version import VERSION

TIMEOUT = 30.0
"""Seconds without a byte after which a server is given up."""
TRIES = 5
"""How often a mirror is asked before the next one is; only a try that brings nothing new counts."""
PAUSE = 1.0
"""Seconds before the second try; doubled for each one after."""
_LONGEST_PAUSE = 60.0
_LARGEST = 4 << 30
"""Bytes at which a file whose size is not known is given up."""
_PIECE = 1 << 18


@dataclass(frozen=True)
class Remote:
    """A published file.

    Attributes:
        name: of the file once it is here.
        urls: where it is, the first asked first.
        digest: SHA-256, or MD5 where only that is published, in hex.
        algorithm: of the digest.
        size: bytes; None where that is not published.
    """

    name: str
    urls: tuple[str, ...]
    digest: str
    algorithm: Literal["sha256", "md5"] = "sha256"
    size: int | None = None


class _TransferError(Exception):
    """A try failed; the message says why.

    Attributes:
        final: whether the same mirror will not do better next time.
        pause: seconds that the server asks to wait.
    """

    def __init__(self, message: str, *, final: bool = False, pause: float = 0.0) -> None:
        super().__init__(message)
        self.final, self.pause = final, pause


def download(remotes: Sequence[Remote], folder: Path, progress: Progress | None = None) -> None:
    """Gets files into a folder, each whole or not at all; those that are there already are left alone.

    Raises:
        DataError: a file could not be got from any mirror; the message names it and each reason.
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


def _remove_empty(folder: Path, remotes: Sequence[Remote], new: Sequence[Path]) -> None:
    """Removes the folders that a failed download made, if nothing came; a part that did come is resumed later."""
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
    """Fills `part` with the whole, checked content of a file."""
    reasons: list[str] = []
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
                # A server that breaks off again and again, but gets on, is borne with.
                failures = failures + 1 if now <= before else 1
                if error.final or failures >= TRIES:
                    reasons.append(f"{url}: {error}")
                    break
                time.sleep(min(max(error.pause, PAUSE * 2 ** (failures - 1)), _LONGEST_PAUSE))
    raise DataError("; ".join(reasons))


def _transfer(url: str, remote: Remote, part: Path, progress: Progress | None) -> None:
    """Goes on with `part` from one mirror, up to the end of the file."""
    have = part.stat().st_size if part.exists() else 0
    if remote.size is not None and have >= remote.size:
        return
    headers = {"User-Agent": f"convae/{VERSION}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        with _network():
            response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        with error:
            _refused(error, part)
    with response:
        start, end = _span(response.status, response.headers, have)
        total = remote.size or end
        if total is not None and total > (remote.size or _LARGEST):
            raise _TransferError(f"offers {total:,} bytes, which is too much", final=True)
        with part.open("r+b" if start else "wb") as file:
            file.seek(start)
            _pour(response, file, start, total, remote, progress)
        if end is not None and part.stat().st_size < end:
            raise _TransferError(f"broke off after {part.stat().st_size:,} of {end:,} bytes")


@contextlib.contextmanager
def _network() -> Iterator[None]:
    """Around what talks to a server and to nothing else: every error of the system in it is the network's.

    Raises:
        _TransferError: the server cannot be reached or broke off.
        HTTPError: it refuses.
    """
    try:
        yield
    except urllib.error.HTTPError:
        raise
    except TimeoutError as error:
        raise _TransferError(f"nothing came for {TIMEOUT:g} seconds") from error
    except urllib.error.URLError as error:
        timed_out = isinstance(error.reason, TimeoutError)
        reason = f"nothing came for {TIMEOUT:g} seconds" if timed_out else str(error.reason)
        raise _TransferError(f"cannot be reached ({reason})") from error
    except (http.client.HTTPException, OSError, ValueError) as error:
        raise _TransferError(f"network error ({error or type(error).__name__})") from error


def _span(status: int, headers: Message, have: int) -> tuple[int, int | None]:
    """Where the answer begins in the file, and where the file ends, if that is said."""
    length = headers.get("Content-Length", "")
    size = int(length) if length.isdigit() else None
    if (headers.get_content_type() or "") == "text/html":
        raise _TransferError("answers with a page instead of the file", final=True)
    if status != 206:
        return 0, size
    unit, _, rest = headers.get("Content-Range", "").partition(" ")
    span, _, whole = rest.partition("/")
    start = span.partition("-")[0]
    if unit != "bytes" or start != str(have):
        raise _TransferError("answers with another part of the file than was asked for", final=True)
    return have, int(whole) if whole.isdigit() else None if size is None else have + size


def _pour(
    response: http.client.HTTPResponse,
    file: BinaryIO,
    start: int,
    total: int | None,
    remote: Remote,
    progress: Progress | None,
) -> None:
    """Copies the answer to the file, no further than the file may be long."""
    done, limit = start, total or _LARGEST
    what = f"downloading {remote.name} (MB)"
    while piece := _received(response):
        done += len(piece)
        if done > limit:
            file.truncate(0)
            raise _TransferError(f"sends more than the {limit:,} bytes of the file", final=True)
        file.write(piece)
        if progress is not None:
            progress(done >> 20, max(limit if total else done, 1) >> 20, what)


def _received(response: http.client.HTTPResponse) -> bytes:
    """The next bytes of an answer; none at its end."""
    with _network():
        return response.read1(_PIECE)


def _refused(error: urllib.error.HTTPError, part: Path) -> None:
    """Tells apart what will pass and what will not.

    Raises:
        _TransferError: always.
    """
    if error.code == 416:
        # The part is longer than the file: it is of something else.
        part.unlink(missing_ok=True)
        raise _TransferError("holds less than was downloaded before") from error
    passing = error.code in {408, 425, 429} or error.code >= 500
    wait = error.headers.get("Retry-After", "") if error.headers else ""
    pause = float(wait) if wait.isdigit() else 0.0
    raise _TransferError(f"answers {error.code} {error.reason}", final=not passing, pause=pause) from error


def _verify(remote: Remote, part: Path) -> None:
    """Checks size and digest, and makes the disk hold the content; a wrong part is removed."""
    with part.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.new(remote.algorithm, usedforsecurity=False)).hexdigest()
        os.fsync(file.fileno())
    if found != remote.digest:
        size = part.stat().st_size
        with contextlib.suppress(FileNotFoundError):
            part.unlink()
        raise _TransferError(f"is damaged or another file ({size:,} bytes, {remote.algorithm} {found})")
