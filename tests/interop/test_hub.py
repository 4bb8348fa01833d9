"""Models of the Hugging Face Hub, from a server on this machine that answers as the Hub does."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from command import run
from narrow import present

import convae
from convae.core.errors import ArtifactError, ConfigError, DataError
from convae.data.io import download
from convae.interop import export_model, import_model
from convae.interop.hub import HubModel

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = "diffusion_pytorch_model.safetensors"


def blob(content: bytes) -> str:
    """The digest of a file in git."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Hub(ThreadingHTTPServer):
    """A repository by the name `someone/vae`.

    Attributes:
        files: content by path.
        listed: changes of what the list of files states, by path.
        asked: the paths that were requested.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.listed: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.status = 200

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

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        status, content = 404, b""
        if self.server.status != 200:
            status = self.server.status
        elif self.path.startswith("/api/models/someone/vae/revision/"):
            status, content = 200, json.dumps({"sha": COMMIT, "siblings": self.server.siblings()}).encode()
        elif (name := self.path.removeprefix(f"/someone/vae/resolve/{COMMIT}/")) in self.server.files:
            status, content = 200, self.server.files[name]
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The server, with the autoencoder of a pipeline in `vae/`."""
    server = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("CONVAE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CONVAE_OFFLINE", raising=False)
    monkeypatch.setattr(download, "TRIES", 1)
    model = convae.build({"preset": "taesd", "input": [3, 16, 16], "latent": 2, "width": 4}).eval()
    list(export_model(model, tmp_path / "out", "diffusers"))
    server.files = {f"vae/{path.name}": path.read_bytes() for path in (tmp_path / "out").glob("[!.]*")}
    server.files["README.md"] = b"a pipeline"
    yield server
    server.shutdown()
    server.server_close()


def test_a_model_is_downloaded_at_its_commit_and_only_once(hub: Hub, tmp_path: Path) -> None:
    run("import", "hf:someone/vae@v1", "--size", "16", "--out", tmp_path / "model")
    model = convae.load(tmp_path / "model")
    facts = present(model.provenance.imported)
    assert facts.source == f"hf:someone/vae@{COMMIT}"
    assert facts.sha256 == hashlib.sha256(hub.files[f"vae/{WEIGHTS}"]).hexdigest()
    assert model.name == "vae"
    assert [path.rpartition("/")[2] for path in hub.asked] == ["v1?blobs=true", "config.json", WEIGHTS]
    again = import_model(Path(facts.source), size=(16, 16))
    assert len(hub.asked) == 3
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in model.state_dict().items())


def change(hub: Hub, path: str, **facts: Any) -> None:
    hub.listed[path] = facts


def only_pickled(hub: Hub) -> None:
    hub.files = {"config.json": b"{}", "diffusion_pytorch_model.bin": b"pickled"}


def restricted(hub: Hub) -> None:
    hub.status = 401


FAULTS: dict[str, tuple[Callable[[Hub], None], type[Exception], str]] = {
    "other weights": (lambda hub: change(hub, f"vae/{WEIGHTS}", lfs={"sha256": "0" * 64}), DataError, WEIGHTS),
    "another configuration": (lambda hub: change(hub, "vae/config.json", blobId="0" * 40), DataError, "config.json"),
    "no digest": (lambda hub: change(hub, f"vae/{WEIGHTS}", lfs={}), ArtifactError, "digest"),
    "a huge configuration": (lambda hub: change(hub, "vae/config.json", size=1 << 40), ArtifactError, "bytes"),
    "no size": (lambda hub: change(hub, f"vae/{WEIGHTS}", size=None), ArtifactError, "bytes"),
    "only pickles": (only_pickled, ArtifactError, "pickled"),
    "no files": (lambda hub: hub.files.clear(), ArtifactError, "config.json"),
    "restricted": (restricted, ArtifactError, "restricted"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_not_as_listed_is_refused(fault: str, hub: Hub, tmp_path: Path) -> None:
    spoil, kind, part = FAULTS[fault]
    spoil(hub)
    with pytest.raises(kind, match=rf"hf:someone/vae.*{part}"):
        import_model(Path("hf:someone/vae"))
    assert not any(path.suffix == ".bin" for path in (tmp_path / "cache").rglob("*"))


@pytest.mark.parametrize("written", ["hf:", "hf:a/b/c", "hf:../etc", "hf:a/b@..", "hf:a/b@x/y", "hf:a b/c"])
def test_a_malformed_name_is_refused(written: str) -> None:
    with pytest.raises(ConfigError, match="OWNER/NAME"):
        HubModel.parse(written)


def test_offline_means_offline(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVAE_OFFLINE", "1")
    with pytest.raises(DataError, match="CONVAE_OFFLINE"):
        import_model(Path("hf:someone/vae"))
    assert hub.asked == []
