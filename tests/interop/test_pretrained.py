"""Pretrained models that are found by name, and pulled from folders, servers and a stand-in for the Hub."""

from __future__ import annotations

import hashlib
import importlib.metadata
import shutil
from collections.abc import Iterator
from email.message import Message
from pathlib import Path

import pytest
from command import run
from hub_server import COMMIT, Hub, serve_hub

import convae
from convae.core.errors import ArtifactError, ConfigError, DataError, OutputError
from convae.core.files import write_json
from convae.data.io import download
from convae.interop import pull_model
from convae.model import pretrained
from convae.model.artifact import read_config
from convae.model.fingerprint import fingerprint
from convae.training.recipe.reading import read_recipe

NAME = "tiny/vae-2"
FILES = ("README.md", "config.json", "model.safetensors")
WEIGHTS = f"{NAME}/model.safetensors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one model by its name."""
    model = convae.build({"preset": "taesd", "input": [3, 16, 16], "latent": 2, "width": 4})
    place = tmp_path_factory.mktemp("models")
    convae.save(model, place / NAME, storage="float16")
    return place


@pytest.fixture
def cache(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and an index with the model of the folder."""
    files = {
        path.name: {"size": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for path in sorted((folder / NAME).iterdir())
    }
    facts = {
        "description": "A tiny model.",
        "data": "none",
        "license": "MIT",
        "input": [3, 16, 16],
        "latent": [2, 2, 2],
    }
    models = {NAME: {**facts, "parameters": 5, "metrics": {"elbo": -12.5}, "files": files}}
    write_json(tmp_path / "index.json", {"format": 1, "models": models})
    monkeypatch.setattr(pretrained, "INDEX", tmp_path / "index.json")
    monkeypatch.setenv("CONVAE_CACHE", str(tmp_path / "cache"))
    for variable in ("CONVAE_MODELS", "CONVAE_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(download, "TRIES", 2)
    monkeypatch.setattr(download, "PAUSE", 0.0)
    monkeypatch.setattr(importlib.metadata, "metadata", lambda _: Message())
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache" / "pretrained"


@pytest.fixture
def hub(cache: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    assert not cache.exists()
    monkeypatch.setenv("HF_TOKEN", "hf_token")
    with serve_hub() as server:
        server.files = {f"{NAME}/{name}": (folder / NAME / name).read_bytes() for name in FILES}
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def url(hub: Hub) -> str:
    return f"{hub.url}/someone/vae/resolve/{COMMIT}"


def left(cache: Path) -> list[str]:
    """The files in the cache that a name could find."""
    return sorted(str(path.relative_to(cache)) for path in cache.rglob("*") if ".partial" not in path.parts)


def test_a_name_is_pulled_once_and_found_by_it(hub: Hub, cache: Path, folder: Path) -> None:
    with pytest.raises(ArtifactError, match=f"convae pull {NAME}"):
        convae.load(NAME)
    run("pull", NAME, "--from", url(hub))
    assert fingerprint(convae.load(NAME)) == fingerprint(convae.load(folder / NAME))
    assert sorted(path.name for path in (cache / NAME).iterdir()) == sorted(FILES)
    assert not any(hub.tokens)  # no token to servers other than the Hub
    asked = len(hub.asked)
    assert pull_model(NAME).path == cache / NAME
    assert len(hub.asked) == asked == len(FILES)


def test_a_name_is_pulled_from_the_hub_with_the_token(hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVAE_MODELS", f"hf:someone/vae@{COMMIT}")
    pulled = pull_model(NAME)
    assert (pulled.path, pulled.source) == (cache / NAME, f"hf:someone/vae@{COMMIT}/{NAME}")
    assert set(hub.tokens) == {"Bearer hf_token"}


def test_a_stopped_download_is_resumed(hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TRIES", 1)
    hub.truncated = [WEIGHTS]
    with pytest.raises(DataError, match=NAME):
        pull_model(NAME, origin=url(hub))
    assert left(cache) == []
    pull_model(NAME, origin=url(hub))
    assert f"bytes={len(hub.files[WEIGHTS]) // 2}-" in hub.ranges
    assert sum("README" in path for path in hub.asked) == 1  # what was complete is kept


@pytest.mark.parametrize("change", [lambda content: content[:-1] + b"x", lambda content: content + b"x"])
def test_other_content_than_that_of_the_index_is_refused(change: object, hub: Hub, cache: Path) -> None:
    assert callable(change)
    hub.files[WEIGHTS] = change(hub.files[WEIGHTS])
    with pytest.raises(DataError, match=r"model\.safetensors"):
        pull_model(NAME, origin=url(hub))
    assert left(cache) == []
    with pytest.raises(ArtifactError):
        convae.load(NAME)


@pytest.mark.parametrize("fault", ["404", "offline", "unknown", "nowhere", "sha256"])
def test_what_cannot_be_pulled_is_one_message(
    fault: str, hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.faults = {WEIGHTS: [404]}
    arguments = ["pull", NAME, "--from", url(hub)]
    if fault == "offline":
        monkeypatch.setenv("CONVAE_OFFLINE", "1")
    elif fault == "unknown":
        arguments[1] = "tiny/vae-3"
    elif fault == "nowhere":
        arguments = arguments[:2]
    elif fault == "sha256":
        arguments += ["--sha256", "0" * 64]
    run(*arguments, code=2)
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    said = {"404": "HTTP 404", "offline": "CONVAE_OFFLINE", "unknown": NAME, "nowhere": "--from", "sha256": "sha256"}
    assert said[fault] in text
    assert left(cache) == []


def test_the_url_of_the_project_is_the_default(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = Message()
    facts["Project-URL"] = "Documentation, http://127.0.0.1:1"
    facts["Project-URL"] = f"Models, {url(hub)}"
    monkeypatch.setattr(importlib.metadata, "metadata", lambda _: facts)
    assert pull_model(NAME).source == f"{url(hub)}/{NAME}"


def test_a_folder_of_models_needs_no_pull(
    cache: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVAE_MODELS", str(folder))
    assert fingerprint(convae.load(NAME)) == fingerprint(convae.load(folder / NAME))
    assert convae.Session(NAME).model.input_shape == (3, 16, 16)
    assert read_recipe({"data": "digits", "start": NAME}).start.model == folder / NAME  # type: ignore[union-attr]
    assert read_recipe({"data": "digits", "model": NAME}).start.model == folder / NAME  # type: ignore[union-attr]
    network = {"network": {"encoder": {"model": NAME}}}
    recipe = read_recipe({"data": "digits", "model": "torch-vae", "objective": {"perceptual": network}})
    assert recipe.objective["perceptual"]["network"] == {"encoder": {"model": str(folder / NAME)}}
    assert pull_model(NAME).path == cache / NAME
    assert pull_model(NAME, tmp_path / "own").path == tmp_path / "own"
    with pytest.raises(OutputError, match="--force"):
        pull_model(NAME, tmp_path / "own")
    assert read_config(pull_model(NAME, tmp_path / "own", force=True).path) == read_config(folder / NAME)


def test_a_damaged_copy_is_replaced(cache: Path, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / NAME, cache / NAME)
    weights = cache / NAME / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(ConfigError, match="--from"):  # the copy is no origin
        pull_model(NAME)
    with pytest.raises(ArtifactError, match=r"model\.safetensors"):
        pull_model(NAME, tmp_path / "own", origin=str(cache))
    assert not (tmp_path / "own").exists()
    pull_model(NAME, origin=str(folder))
    assert fingerprint(convae.load(NAME)) == fingerprint(convae.load(folder / NAME))


def test_a_path_that_exists_comes_before_a_name(cache: Path, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, cache)
    model = convae.build({"preset": "taesd", "input": [3, 16, 16], "latent": 3, "width": 4})
    convae.save(model, tmp_path / NAME)
    assert convae.load(NAME).latent_shape == (3, 2, 2)


@pytest.mark.usefixtures("cache")
def test_an_unknown_name_has_a_suggestion() -> None:
    with pytest.raises(ArtifactError, match=f"'{NAME}'"):
        convae.load("tiny/vae")
    with pytest.raises(ConfigError, match="--from"):
        pull_model("hf:someone/vae", origin="models")
    with pytest.raises(ConfigError, match="password"):
        pull_model(NAME, origin="https://me:secret@127.0.0.1:1")


def test_commands_take_names(cache: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(folder, cache)
    run("show", NAME)
    assert "3×16×16" in capsys.readouterr().out
    run("show", "tiny/vae", code=2)
    assert NAME in capsys.readouterr().err
    run("models", "--markdown")
    row = capsys.readouterr().out.splitlines()[-1]
    assert [cell.strip() for cell in row.split("|")[1:-1]][:5] == [NAME, "A tiny model.", "3×16×16", "2×2×2", "-12.5"]
    assert row.endswith("| yes |")
    run("cache")
    assert f"{NAME} (downloaded)" in " ".join(capsys.readouterr().out.split())
    run("cache", "--clear")
    assert (cache / NAME).is_dir()
    run("cache", "--clear", NAME)
    assert not (cache / NAME).exists()


@pytest.mark.parametrize("name", ["../evil", "a/../b", "/evil", "", ".hidden"])
def test_an_index_cannot_name_other_folders(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = {"description": "", "data": "", "license": "", "input": [1], "latent": [1], "parameters": 1, "metrics": {}}
    models = {"tiny/vae": {**facts, "files": {name: {"size": 1, "sha256": "0" * 64}}}}
    write_json(tmp_path / "index.json", {"format": 1, "models": models})
    monkeypatch.setattr(pretrained, "INDEX", tmp_path / "index.json")
    with pytest.raises(ConfigError):
        pretrained.read_index()
    assert not pretrained.is_model_name(name)
