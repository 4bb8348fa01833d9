"""A server on this machine that answers as the Hugging Face Hub does."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def blob(content: bytes) -> str:
    """The digest of a file in git."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Hub(ThreadingHTTPServer):
    """One repository, by the name `someone/vae`.

    Attributes:
        files: content by path.
        listed: changes of what the list of files states, by path.
        asked: the paths that were requested by GET.
        sent: method and path of the other requests.
        tokens: the Authorization headers of all requests, None for requests without one.
        ranges: the Range headers of downloads.
        status: status of all answers, if it is not 200.
        faults: part of a path to the statuses of the next answers to requests for it.
        truncated: paths whose next download ends after half of the content.
        commits: number of commits.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.stored: dict[str, bytes] = {}
        self.listed: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.sent: list[str] = []
        self.tokens: list[str | None] = []
        self.ranges: list[str | None] = []
        self.status = 200
        self.faults: dict[str, list[int]] = {}
        self.truncated: list[str] = []
        self.commits = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def siblings(self) -> list[dict[str, Any]]:
        found = []
        for name, content in self.files.items():
            facts: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": blob(content)}
            if name.endswith(("safetensors", "bin")):
                facts |= {"blobId": "0" * 40, "lfs": {"sha256": hashlib.sha256(content).hexdigest()}}
            found.append(facts | self.listed.get(name, {}))
        return found


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, content: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def json(self, content: Any) -> None:
        self.answer(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def refuses(self) -> bool:
        """Answers with a fault, if there is one."""
        self.server.tokens.append(self.headers.get("Authorization"))
        faults = next((found for part, found in self.server.faults.items() if part in self.path and found), None)
        status = faults.pop(0) if faults else self.server.status
        if status != 200:
            self.answer(status, headers={"Retry-After": "0"})
        return status != 200

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.refuses():
            return
        name = self.path.removeprefix(f"/someone/vae/resolve/{COMMIT}/")
        if self.path.startswith("/api/models/someone/vae/revision/"):
            self.json({"sha": COMMIT, "siblings": self.server.siblings()})
        elif name in self.server.files:
            self.send_file(name, self.server.files[name])
        else:
            self.answer(404)

    def send_file(self, name: str, content: bytes) -> None:
        wanted = self.headers.get("Range")
        self.server.ranges.append(wanted)
        start = 0 if wanted is None else int(wanted.removeprefix("bytes=").rstrip("-"))
        span = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if wanted else {}
        sent = content[start:]
        if name in self.server.truncated:
            self.server.truncated.remove(name)
            self.answer(206 if wanted else 200, sent[: len(sent) // 2], span | {"Content-Length": str(len(sent))})
        else:
            self.answer(206 if wanted else 200, sent, span)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.sent.append(f"POST {self.path}")
        if self.refuses():
            return
        if self.path == "/api/repos/create":
            self.json({"url": f"{self.server.url}/someone/vae", "id": "someone/vae"})
        elif self.path == "/api/validate-yaml":
            self.json({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            self.json({"files": [self.upload_mode(each["path"]) for each in json.loads(body)["files"]]})
        elif self.path.endswith("/info/lfs/objects/batch"):
            self.json({"objects": [self.upload_action(each) for each in json.loads(body)["objects"]]})
        elif "/commit/" in self.path:
            self.commit([json.loads(line) for line in body.splitlines()])
        else:
            self.answer(404)

    def upload_mode(self, path: str) -> dict[str, Any]:
        return {
            "path": path,
            "uploadMode": "lfs" if path.endswith("safetensors") else "regular",
            "shouldIgnore": False,
            "oid": None,
        }

    def upload_action(self, asked: dict[str, Any]) -> dict[str, Any]:
        if asked["oid"] in self.server.stored:
            return asked
        return {**asked, "actions": {"upload": {"href": f"{self.server.url}/lfs/{asked['oid']}"}}}

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.sent.append(f"PUT {self.path}")
        if not self.refuses():
            self.server.stored[self.path.removeprefix("/lfs/")] = content
            self.answer(200)

    def commit(self, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                self.server.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.server.files[value["path"]] = self.server.stored[value["oid"]]
        self.server.commits += 1
        self.json({"commitUrl": f"{self.server.url}/someone/vae/commit/{COMMIT}", "commitOid": COMMIT})


@contextlib.contextmanager
def serve_hub() -> Iterator[Hub]:
    """The server, on a free port."""
    server = Hub()
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()
