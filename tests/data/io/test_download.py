"""Downloads against a server on this machine that does what servers do."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from narrow import present

from convae.core.errors import DataError, OutputError
from convae.data import DataConfig, open_split
from convae.data.io import download, http
from convae.data.sources.mnist import Mnist

CONTENT = np.random.default_rng(0).integers(0, 256, 600_000, np.uint8).tobytes()
GOOD = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Counts how often each behavior was asked for, and with which Range."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: dict[str, list[str | None]] = {}
        self.stopped = threading.Event()
        self.folder = Path()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away in the middle is what is tested here."""


class Handler(BaseHTTPRequestHandler):
    """Each path is a way to behave."""

    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        behavior = self.path.strip("/").split("/")[0]
        asked = self.server.asked.setdefault(behavior, [])
        asked.append(self.headers.get("Range"))
        getattr(self, behavior.replace("-", "_"))(len(asked))

    def answer(self, content: bytes, status: int = 200, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def ranged(self, limit: int | None = None) -> None:
        asked = self.headers.get("Range")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        rest = CONTENT[start:]
        headers = {"Content_Range": f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"} if asked else {}
        self.answer(rest[:limit], 206 if asked else 200, len(rest), **headers)

    def good(self, _: int) -> None:
        self.ranged()

    def truncating(self, _: int) -> None:
        self.ranged(150_000)

    def stubborn(self, time: int) -> None:
        """Breaks off once, and knows nothing of ranges."""
        self.answer(CONTENT[:1000] if time == 1 else CONTENT, length=len(CONTENT))

    def stalling(self, time: int) -> None:
        if time > 1:
            self.ranged()
        else:
            self.answer(CONTENT[:1000], length=len(CONTENT))
            self.wfile.flush()
            self.server.stopped.wait(5)

    def corrupt(self, _: int) -> None:
        self.answer(CONTENT[:-1] + b"\0")

    def corrupt_once(self, time: int) -> None:
        self.answer(bytes(len(CONTENT)) if time == 1 else CONTENT)

    def endless(self, _: int) -> None:
        self.answer(CONTENT + CONTENT)

    def endless_unsaid(self, _: int) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(CONTENT + CONTENT)

    def page(self, _: int) -> None:
        self.answer(b"<html>quota exceeded</html>", Content_Type="text/html; charset=utf-8")

    def elsewhere(self, _: int) -> None:
        self.answer(b"", 302, Location="/good")

    def circle(self, _: int) -> None:
        self.answer(b"", 302, Location="/circle")

    def wrong_part(self, time: int) -> None:
        if time == 1:
            self.answer(CONTENT[:1000], length=len(CONTENT))
        else:
            self.answer(CONTENT[:50], 206, Content_Range=f"bytes 0-49/{len(CONTENT)}")

    def busy(self, time: int) -> None:
        if time < 3:
            self.answer(b"", 429, Retry_After="0")
        else:
            self.ranged()

    def not_there(self, _: int) -> None:
        self.answer(b"", 404)

    def broken(self, _: int) -> None:
        self.answer(b"", 500)

    def too_short(self, _: int) -> None:
        self.answer(b"", 416)

    def files(self, _: int) -> None:
        path = Path(self.server.folder, self.path.rpartition("/")[2])
        self.answer(path.read_bytes()) if path.exists() else self.answer(b"", 404)

    def slow(self, _: int) -> None:
        asked = self.headers.get("Range")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        headers = {"Content_Range": f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"} if asked else {}
        self.answer(b"", 206 if asked else 200, len(CONTENT) - start, **headers)
        for place in range(start, len(CONTENT), 20_000):
            self.wfile.write(CONTENT[place : place + 20_000])
            self.wfile.flush()
            time.sleep(0.01)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server, and a client that is not patient."""
    monkeypatch.setattr(http, "TIMEOUT", 0.5)
    monkeypatch.setattr(download, "PAUSE", 0.001)
    monkeypatch.setattr(download, "TRIES", 3)
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    found = Server()
    thread = threading.Thread(target=found.serve_forever, args=(0.02,))
    thread.start()
    yield found
    found.stopped.set()
    found.shutdown()
    thread.join()
    found.server_close()


def remote(server: Server, *behaviors: str, **more: Any) -> download.Remote:
    urls = tuple(f"http://127.0.0.1:{server.server_port}/{behavior}" for behavior in behaviors)
    facts: dict[str, Any] = {"digest": GOOD, "size": len(CONTENT), **more}
    return download.Remote("file.bin", urls, **facts)


@pytest.mark.parametrize(
    "behavior", ["good", "truncating", "stubborn", "stalling", "corrupt-once", "elsewhere", "busy"]
)
@pytest.mark.parametrize("size", [len(CONTENT), None])
def test_what_servers_do_is_borne_with(server: Server, tmp_path: Path, behavior: str, size: int | None) -> None:
    told = []
    download.download(
        [remote(server, behavior, size=size)], tmp_path, lambda done, total, what: told.append((done, total, what))
    )
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert told[-1][2] == "downloading file.bin (MB)"
    if behavior == "truncating":
        assert server.asked["truncating"] == [None, "bytes=150000-", "bytes=300000-", "bytes=450000-"]


@pytest.mark.parametrize(
    ("behavior", "reason"),
    [
        ("corrupt", "damaged"),
        ("endless", "too large|more than the 600,000 bytes"),
        ("endless-unsaid", "more than the 600,000 bytes"),
        ("page", "web page"),
        ("circle", "HTTP 302"),
        ("wrong-part", "different range"),
        ("not-there", "HTTP 404 Not Found"),
        ("broken", "HTTP 500 Internal Server Error"),
        ("too-short", "smaller than the partial download"),
    ],
)
def test_another_mirror_helps_and_without_one_the_reason_is_told(
    server: Server, tmp_path: Path, behavior: str, reason: str
) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        download.download([remote(server, behavior)], tmp_path / "alone")
    assert f"/{behavior}: " in str(caught.value)
    assert not (tmp_path / "alone" / "file.bin").exists()
    assert len(server.asked[behavior]) <= 12
    download.download([remote(server, behavior, "good")], tmp_path / "two")
    assert (tmp_path / "two" / "file.bin").read_bytes() == CONTENT


def test_a_server_that_is_not_there_is_told(tmp_path: Path, server: Server) -> None:
    gone = download.Remote("file.bin", ("http://127.0.0.1:1/x",), GOOD)
    with pytest.raises(DataError, match="cannot be reached"):
        download.download([gone], tmp_path)
    both = download.Remote("file.bin", (*remote(server, "not-there").urls, *gone.urls), GOOD)
    with pytest.raises(DataError, match=r"HTTP 404.*; .*cannot be reached"):
        download.download([both], tmp_path)


NETWORK = {
    "unreachable": OSError(errno.ENETUNREACH, "Network is unreachable"),
    "reset": ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
    "encryption": ssl.SSLError(1, "[SSL] record layer failure"),
    "no text": OSError(),
}


@pytest.mark.parametrize("moment", ["opening", "reading"])
@pytest.mark.parametrize("fault", NETWORK)
def test_an_error_of_the_network_is_no_error_of_the_disk(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, fault: str
) -> None:
    broken = f"http://127.0.0.1:{server.server_port}/broken-line"
    urlopen = urllib.request.urlopen

    def opened(request: urllib.request.Request, timeout: float) -> Any:
        if request.full_url != broken:
            return urlopen(request, timeout=timeout)
        if moment == "opening":
            raise NETWORK[fault]
        response = urlopen(remote(server, "good").urls[0], timeout=timeout)
        monkeypatch.setattr(response, "read1", Mock(side_effect=[CONTENT[:1000], NETWORK[fault]]))
        return response

    monkeypatch.setattr(urllib.request, "urlopen", opened)
    with pytest.raises(DataError, match="network error"):
        download.download([replace(remote(server), urls=(broken,))], tmp_path / "alone")
    assert (tmp_path / "alone").exists() == (moment == "reading"), "only what came is kept"
    download.download([replace(remote(server), urls=(broken, *remote(server, "good").urls))], tmp_path / "two")
    assert (tmp_path / "two" / "file.bin").read_bytes() == CONTENT


def test_an_error_of_the_disk_is_told_as_such(server: Server, tmp_path: Path) -> None:
    (tmp_path / ".file.bin.part").symlink_to("/dev/full")
    with pytest.raises(OutputError, match="No space left"):
        download.download([remote(server, "good", "good")], tmp_path)


def test_a_failed_download_leaves_no_folder(server: Server, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(DataError):
        download.download([remote(server, "not-there")], tmp_path / "mine" / "data" / "set")
    assert list((tmp_path / "mine").iterdir()) == []


def test_a_part_of_something_else_is_thrown_away(server: Server, tmp_path: Path) -> None:
    (tmp_path / ".file.bin.part").write_bytes(bytes(1000))
    download.download([remote(server, "good")], tmp_path)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    (tmp_path / "file.bin").unlink()
    (tmp_path / ".file.bin.part").write_bytes(bytes(len(CONTENT) + 5))
    download.download([remote(server, "good", size=None)], tmp_path)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_md5_where_only_that_is_published_and_nothing_twice(server: Server, tmp_path: Path) -> None:
    digest = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
    for _ in range(2):
        download.download([remote(server, "good", digest=digest, algorithm="md5")], tmp_path)
    assert server.asked["good"] == [None]


GET = """
import sys
from pathlib import Path
from convae.data.io.download import Remote, download
download([Remote("file.bin", (sys.argv[1],), sys.argv[2], size=int(sys.argv[3]))], Path(sys.argv[4]))
"""


def getter(server: Server, folder: Path) -> subprocess.Popen[bytes]:
    url = remote(server, "slow").urls[0]
    return subprocess.Popen([sys.executable, "-c", GET, url, GOOD, str(len(CONTENT)), str(folder)])


def test_a_killed_download_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    process = getter(server, tmp_path)
    part = tmp_path / ".file.bin.part"
    while not part.exists() or part.stat().st_size < 50_000:
        assert process.poll() is None
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "file.bin").exists()
    download.download([remote(server, "slow")], tmp_path)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    starts = [int(asked.removeprefix("bytes=").rstrip("-")) for asked in map(present, server.asked["slow"][1:])]
    assert len(starts) == 1
    assert starts[0] >= 50_000


def test_two_processes_at_once_download_once(server: Server, tmp_path: Path) -> None:
    process = getter(server, tmp_path)
    while "slow" not in server.asked:
        assert process.poll() is None
        time.sleep(0.005)
    download.download([remote(server, "slow")], tmp_path)
    assert process.wait() == 0
    assert len(server.asked["slow"]) == 1
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


@pytest.fixture
def small_mnist(
    tmp_path: Path, server: Server, write_idx: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> list[Path]:
    """The files of a small MNIST, which the server has."""
    server.folder = tmp_path / "published"
    files = sorted(write_idx(tmp_path / "published").iterdir())
    remotes = tuple(
        download.Remote(
            path.name,
            (remote(server, f"files/{path.name}").urls),
            hashlib.sha256(path.read_bytes()).hexdigest(),
            size=path.stat().st_size,
        )
        for path in files
    )
    monkeypatch.setattr(Mnist, "remotes", remotes)
    return files


def test_a_known_set_that_is_not_found_is_downloaded_once(
    tmp_path: Path, small_mnist: list[Path], monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.delenv("CONVAE_OFFLINE")
    assert len(open_split(DataConfig(source="mnist"), "all")) == 17
    assert sorted(path.name for path in (cache / "data" / "mnist").glob("[!.]*")) == [path.name for path in small_mnist]
    for path in small_mnist:
        path.unlink()
    assert len(open_split(DataConfig(source="mnist"), "all")) == 17
    with pytest.raises(DataError) as caught:
        open_split(DataConfig(source="mnist", dir=tmp_path / "given"), "all")
    for words in (
        "mnist: cannot be downloaded (",
        "HTTP 404",
        "t10k-images",
        "https://",
        f"into {tmp_path / 'given' / 'mnist'}",
    ):
        assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("way", ["configuration", "environment"])
@pytest.mark.usefixtures("small_mnist")
def test_downloads_can_be_forbidden(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    if way == "configuration":
        monkeypatch.delenv("CONVAE_OFFLINE")
    with pytest.raises(DataError, match="mnist: not found"):
        open_split(DataConfig(source="mnist", download=way != "configuration"), "all")
