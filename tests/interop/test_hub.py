"""Models of the Hugging Face Hub, from a server on this machine that answers as the Hub does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from command import run
from hub_server import COMMIT, Hub, serve_hub
from narrow import present
from safetensors.torch import load, save

import convae
from convae.core.errors import ArtifactError, ConfigError, DataError
from convae.data.io import download
from convae.interop import export_model, import_model
from convae.interop.hub import HubModel

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The server, with the autoencoder of a pipeline in `vae/`."""
    monkeypatch.setenv("CONVAE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("CONVAE_OFFLINE", raising=False)
    monkeypatch.setattr(download, "TRIES", 1)
    model = convae.build({"preset": "taesd", "input": [3, 16, 16], "latent": 2, "width": 4}).eval()
    list(export_model(model, tmp_path / "out", "diffusers"))
    with serve_hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        server.files = {f"vae/{path.name}": path.read_bytes() for path in (tmp_path / "out").glob("[!.]*")}
        server.files["README.md"] = b"a pipeline"
        yield server


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


def test_weights_in_several_files_are_downloaded_before_their_index(hub: Hub) -> None:
    state = load(hub.files.pop(f"vae/{WEIGHTS}"))
    names, stem = sorted(state), WEIGHTS.removesuffix(".safetensors")
    files = {name: f"{stem}-0000{1 + number % 2}-of-00002.safetensors" for number, name in enumerate(names)}
    for file in set(files.values()):
        hub.files[f"vae/{file}"] = save({name: state[name] for name in names if files[name] == file})
    hub.files[f"vae/{WEIGHTS}.index.json"] = json.dumps({"weight_map": files}).encode()
    hub.faults = {".index.json": [404]}
    with pytest.raises((ArtifactError, DataError)):
        import_model(Path("hf:someone/vae"), size=(16, 16))
    before = len(hub.asked)
    model = import_model(Path("hf:someone/vae"), size=(16, 16))
    assert present(model.provenance.imported).file == f"{WEIGHTS}.index.json"
    assert [path.rpartition("/")[2] for path in hub.asked[before + 1 :]] == [f"{WEIGHTS}.index.json"]


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
