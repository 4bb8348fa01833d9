"""Models that are pushed to and pulled from a stand-in for the Hub, archives and folders."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from command import run
from hub_server import COMMIT, Hub, serve_hub

import convae
from convae.core.errors import ArtifactError, ConfigError, DataError, OutputError
from convae.data.io import download
from convae.interop import pull_model, push_model
from convae.model.artifact import read_config
from convae.model.fingerprint import fingerprint
from convae.model.provenance import Provenance, without_folders

TOKEN = "hf_secretsecretsecretsecret"
FILES = ("config.json", "model.safetensors", "README.md")
PINNED = f"hf:someone/vae@{COMMIT}"


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = convae.build({"preset": "taesd", "input": [3, 16, 16], "latent": 2, "width": 4})
    return convae.save(model, tmp_path_factory.mktemp("saved") / "model")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setenv("CONVAE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.delenv("CONVAE_OFFLINE", raising=False)
    monkeypatch.setattr(download, "TRIES", 3)
    monkeypatch.setattr(download, "PAUSE", 0.0)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.chdir(tmp_path)
    with serve_hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


Output = pytest.CaptureFixture[str]


def shown(capsys: Output, *arguments: object, code: int = 0) -> tuple[str, str]:
    """What a command prints to stdout and stderr."""
    run(*arguments, code=code)
    found = capsys.readouterr()
    return found.out, found.err


def publish(hub: Hub, artifact: Path) -> None:
    hub.files = {name: (artifact / name).read_bytes() for name in FILES}


def test_a_pushed_model_is_pulled_with_its_commit(hub: Hub, artifact: Path, tmp_path: Path, capsys: Output) -> None:
    assert shown(capsys, "push", artifact, "hf:someone/vae")[0].strip() == PINNED
    assert set(hub.files) == set(FILES)
    assert hub.commits == 1
    assert hub.files["README.md"].startswith(b"---\n")
    assert b"convae pull hf:someone/vae" in hub.files["README.md"]
    assert PINNED in shown(capsys, "pull", "hf:someone/vae@v1")[1]
    assert read_config(tmp_path / "vae").provenance.source == PINNED
    assert fingerprint(convae.load(tmp_path / "vae")) == fingerprint(convae.load(artifact))
    assert set(hub.tokens) == {f"Bearer {TOKEN}", None}  # none for the storage that uploads are redirected to


def test_folders_of_the_machine_are_not_published(hub: Hub, tmp_path: Path) -> None:
    model = convae.build({"preset": "taesd", "input": [3, 16, 16], "latent": 2, "width": 4})
    folder = tmp_path / "private" / "cats"
    model.provenance = Provenance(
        data={"source": {"photos": {"path": str(folder), "range": [0, 255]}}, "size": [16, 16]}
    )
    saved = convae.save(model, tmp_path / "model")
    push_model(saved, "hf:someone/vae")
    with zipfile.ZipFile(push_model(saved, str(tmp_path / "vae.zip")).target) as archive:
        packed = archive.read("config.json")
    for config in (hub.files["config.json"], packed):
        assert b"private" not in config
    assert pull_model(str(tmp_path / "vae.zip"), tmp_path / "copy")
    copy = convae.load(tmp_path / "copy")
    assert copy.provenance.data == {"source": {"photos": {"path": "cats", "range": [0, 255]}}, "size": [16, 16]}
    assert str(folder) in (saved / "config.json").read_text()
    others = ["mnist", "https://host/a", 3, "/"]
    assert without_folders(["C:\\Users\\me\\cats", *others]) == ["cats", *others]


def test_a_measured_card_is_published_with_the_model(hub: Hub, artifact: Path, tmp_path: Path) -> None:
    card = tmp_path / "card"
    card.mkdir()
    with pytest.raises(ArtifactError, match=r"card\.md"):
        push_model(artifact, "hf:someone/vae", card=card)
    for name in ("card.md", "card.json", "card.png"):
        (card / name).write_text(name)
    push_model(artifact, "hf:someone/vae", card=card)
    assert set(hub.files) == {*FILES, "card.json", "card.png"}
    assert hub.files["card.png"] == b"card.png"
    assert hub.files["README.md"].startswith(b"card.md")
    assert b"convae pull hf:someone/vae" in hub.files["README.md"]


def test_no_token_is_written_or_printed(hub: Hub, artifact: Path, tmp_path: Path, capsys: Output) -> None:
    hub.faults = {"/commit/": [400]}
    text = [
        *shown(capsys, "push", artifact, "hf:someone/vae", code=2),
        *shown(capsys, "push", artifact, "hf:someone/vae"),
    ]
    assert "400" in text[1]
    text += shown(capsys, "pull", "hf:someone/vae")
    assert TOKEN not in "".join(text)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written
    assert not any(TOKEN.encode() in path.read_bytes() for path in written)


def test_rate_limits_and_lost_connections_are_overcome(hub: Hub, artifact: Path, tmp_path: Path) -> None:
    hub.faults = {"/repos/create": [429], "/commit/": [503], "/revision/": [429], "/resolve/": [429]}
    push_model(artifact, "hf:someone/vae")
    assert sum(each.startswith("PUT") for each in hub.sent) == 1  # the weights are not sent again
    hub.truncated = ["model.safetensors"]
    pull_model("hf:someone/vae", tmp_path / "copy")
    assert any(each is not None and each != "bytes=0-" for each in hub.ranges)
    assert fingerprint(convae.load(tmp_path / "copy")) == fingerprint(convae.load(artifact))


def test_a_stopped_download_is_resumed_by_the_next_call(
    hub: Hub, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(hub, artifact)
    monkeypatch.setattr(download, "TRIES", 1)
    hub.truncated = ["model.safetensors"]
    with pytest.raises(DataError, match="hf:someone/vae"):
        pull_model("hf:someone/vae", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    pull_model("hf:someone/vae", tmp_path / "copy")
    half = len(hub.files["model.safetensors"]) // 2
    assert f"bytes={half}-" in hub.ranges
    torch.testing.assert_close(
        convae.load(tmp_path / "copy").state_dict(), convae.load(artifact).state_dict(), rtol=0, atol=0
    )


@pytest.mark.parametrize("status", [401, 403, 404])
@pytest.mark.parametrize("place", ["/api/", "/resolve/"])
def test_denied_access_is_one_message(
    status: int, place: str, hub: Hub, artifact: Path, tmp_path: Path, capsys: Output
) -> None:
    publish(hub, artifact)
    hub.faults = {place: [status]}
    _, text = shown(capsys, "pull", "hf:someone/vae", code=2)
    assert text.count("\n") == 1
    assert "hf:someone/vae" in text
    assert ("HF_TOKEN" in text) == (status != 404)
    assert len([path for path in hub.asked if place in path]) == 1
    assert not (tmp_path / "vae").exists()


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_denied_push_is_one_message(status: int, hub: Hub, artifact: Path) -> None:
    hub.faults = {"/repos/create": [status]}
    with pytest.raises(OutputError, match=r"hf:someone/vae.*HF_TOKEN"):
        push_model(artifact, "hf:someone/vae")
    assert len(hub.sent) == 1


def test_a_lasting_rate_limit_ends_a_push_and_a_pull(hub: Hub, artifact: Path) -> None:
    hub.status = 429
    with pytest.raises(DataError, match="rate limit"):
        push_model(artifact, "hf:someone/vae")
    with pytest.raises(DataError, match="rate limit"):
        pull_model("hf:someone/vae")
    assert len(hub.asked) == 3


@pytest.mark.parametrize(
    "change", [{"size": 5}, {"lfs": {"sha256": "0" * 64}}, {"lfs": None, "blobId": None}], ids=["size", "hash", "none"]
)
def test_an_upload_that_differs_afterwards_is_reported(change: dict[str, object], hub: Hub, artifact: Path) -> None:
    hub.listed = {"model.safetensors": change}
    with pytest.raises(DataError, match=r"hf:someone/vae@0123.*model\.safetensors"):
        push_model(artifact, "hf:someone/vae")


def test_other_models_of_the_hub_are_refused(hub: Hub, tmp_path: Path) -> None:
    hub.files = {"config.json": b"{}", "diffusion_pytorch_model.safetensors": b"x"}
    with pytest.raises(ArtifactError, match="convae import"):
        pull_model("hf:someone/vae")
    hub.files = {"config.json": b"{}", "model.safetensors": b"x"}
    with pytest.raises(ArtifactError, match=r"config\.json"):
        pull_model("hf:someone/vae")
    assert not (tmp_path / "vae").exists()


def test_damaged_tensors_are_never_pushed_or_pulled(hub: Hub, artifact: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(artifact, damaged)
    content = bytearray((damaged / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (damaged / "model.safetensors").write_bytes(content)
    with pytest.raises(ArtifactError, match="SHA-256"):
        push_model(damaged, "hf:someone/vae")
    with pytest.raises(ArtifactError, match="SHA-256"):
        pull_model(str(damaged), tmp_path / "copy")
    assert hub.sent == []
    assert not (tmp_path / "copy").exists()


def test_an_archive_on_a_web_server_is_pulled_by_its_sha256(hub: Hub, artifact: Path, tmp_path: Path) -> None:
    pushed = push_model(artifact, str(tmp_path / "fashion.zip"))
    assert push_model(artifact, str(tmp_path / "again.zip")).sha256 == pushed.sha256
    hub.files = {"fashion.zip": (tmp_path / "fashion.zip").read_bytes()}
    url = f"{hub.url}/someone/vae/resolve/{COMMIT}/fashion.zip"
    (tmp_path / "fashion.zip").unlink()
    hub.truncated = ["fashion.zip"]
    run("pull", url, "--sha256", pushed.sha256)
    assert read_config(tmp_path / "fashion").provenance.source == f"{url}#sha256={pushed.sha256}"
    assert hub.tokens == [None, None]  # no token to servers other than the Hub
    with pytest.raises(ConfigError, match="sha256"):
        pull_model(url, tmp_path / "other")
    with pytest.raises(DataError, match="damaged or a different file"):
        pull_model(url, tmp_path / "other", sha256="0" * 64)
    with pytest.raises(ConfigError, match="password"):
        pull_model(url.replace("//", "//me:secret@"), tmp_path / "other", sha256="0" * 64)


def test_a_local_folder_and_archive_are_copied(artifact: Path, tmp_path: Path) -> None:
    pushed = push_model(artifact, str(tmp_path / "model.zip"))
    assert pushed.sha256 == hashlib.sha256((tmp_path / "model.zip").read_bytes()).hexdigest()
    for number, source in enumerate((artifact, tmp_path / "model.zip")):
        pulled = pull_model(str(source), tmp_path / str(number))
        assert pulled.source is None
        assert read_config(pulled.path).provenance == read_config(artifact).provenance
    with pytest.raises(OutputError, match="already exists"):
        pull_model(str(artifact), tmp_path / "0")
    pull_model(str(artifact), tmp_path / "0", force=True)


@pytest.mark.parametrize("name", ["../evil", "/evil", "weights.bin", "a/config.json"])
def test_an_archive_with_other_files_is_refused(name: str, artifact: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(artifact / "config.json", "config.json")
        archive.writestr(name, b"x")
    with pytest.raises(ArtifactError, match=r"archive|no file"):
        pull_model(str(tmp_path / "a.zip"), tmp_path / "copy")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip"]


@pytest.mark.parametrize("target", ["hf:", "hf:alone", "hf:a/b@..", "model", "model.tar"])
def test_a_malformed_target_is_refused(target: str, artifact: Path) -> None:
    with pytest.raises(ConfigError):
        push_model(artifact, target)
