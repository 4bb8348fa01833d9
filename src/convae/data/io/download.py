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
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

from filelock import FileLock

from convae.core.errors import DataError
from convae.core.files import writing_errors
from convae.core.progress import Progress
from convae.data.io.http import TransferError, network_errors, open_url, read_piece, response_span

TRIES = 5
"""Number of attempts per mirror; only attempts without progress count."""
PAUSE = 1.0
"""Seconds before the second attempt; doubled for each further one."""
LONGEST_PAUSE = 60.0
"""Longest wait between attempts, in seconds."""
_LARGEST = 4 << 30
"""Size limit of a file of unknown size, in bytes."""


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
            with open_url(url, token, {"Accept": "application/json"}) as response, network_errors():
                content = response.read(largest + 1)
            if len(content) > largest:
                raise TransferError(f"sent more than {largest:,} bytes", final=True)
            return content
        except TransferError as error:
            failures += 1
            if error.final or failures >= TRIES:
                raise DownloadError(str(error), error.status) from error
            _wait(error, failures)


def _wait(error: TransferError, failures: int) -> None:
    """Waits before the next attempt, as long as the server requests."""
    time.sleep(min(max(error.pause, PAUSE * 2 ** (failures - 1)), LONGEST_PAUSE))


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
            except TransferError as error:
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
        response = open_url(url, remote.token, headers)
    except TransferError as error:
        if error.status == 416:  # the partial file is longer than the remote one, so it belongs to another file
            part.unlink(missing_ok=True)
            raise TransferError("the file is smaller than the partial download", status=416) from error
        raise
    with response:
        start, end = response_span(response.status, response.headers, have)
        total = remote.size or end
        if total is not None and total > (remote.size or _LARGEST):
            raise TransferError(f"the file of {total:,} bytes is too large", final=True)
        with part.open("r+b" if start else "wb") as file:
            file.seek(start)
            _pour(response, file, start, total, remote, progress)
        if end is not None and part.stat().st_size < end:
            raise TransferError(f"connection lost after {part.stat().st_size:,} of {end:,} bytes")


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
    while piece := read_piece(response):
        done += len(piece)
        if done > limit:
            file.truncate(0)
            raise TransferError(f"sent more than the {limit:,} bytes of the file", final=True)
        file.write(piece)
        if progress is not None:
            progress(done >> 20, max(limit if total else done, 1) >> 20, what)


def _verify(remote: Remote, part: Path) -> None:
    """Checks size and digest, and syncs the file; a wrong file is removed."""
    with part.open("rb") as file:
        found = hashlib.file_digest(file, lambda: _begin_digest(remote.algorithm, part)).hexdigest()
        os.fsync(file.fileno())
    if found != remote.digest:
        size = part.stat().st_size
        with contextlib.suppress(FileNotFoundError):
            part.unlink()
        raise TransferError(f"damaged or a different file ({size:,} bytes, {remote.algorithm} {found})")


def _begin_digest(algorithm: str, part: Path) -> Any:
    """A digest before the first byte of a file."""
    found = hashlib.new("sha1" if algorithm == "git" else algorithm, usedforsecurity=False)
    if algorithm == "git":
        found.update(b"blob %d\0" % part.stat().st_size)
    return found
