"""What an artifact promises: whole or not at all, and nothing damaged is ever used."""

from __future__ import annotations

import copy
import json
import math
import os
import re
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from narrow import narrow
from safetensors.torch import load_file, save_file

import convae
from convae.core.checked_files import digest, with_checksum
from convae.core.errors import ArtifactError, ConfigError, OutputError
from convae.core.files import write_json
from convae.model import artifact
from convae.model.provenance import Provenance, SplitFacts, TrainingFacts
from convae.model.vae import VAE


@pytest.fixture
def folder(model: VAE, tmp_path: Path) -> Path:
    model.provenance = Provenance(classes=("a", "b"), training=TrainingFacts(data=SplitFacts(source="digits"), step=3))
    return convae.save(model, tmp_path / "model")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One artifact whose bytes are put back after each try."""
    spec = {"preset": "torch-vae", "input": [1, 8, 8], "latent": 2, "max_filters": 4}
    return convae.save(convae.build(spec), tmp_path_factory.mktemp("shared") / "model")


def rewrite(folder: Path, change: dict[str, Any]) -> None:
    """Changes config.json and makes its own SHA-256 right again."""
    config = json.loads((folder / "config.json").read_text()) | change
    del config["config_sha256"]
    write_json(folder / "config.json", with_checksum(config))


def test_a_model_comes_back_with_its_weights_its_description_and_where_it_came_from(model: VAE, folder: Path) -> None:
    again = convae.load(folder)
    assert not again.training
    assert again.spec == model.spec
    assert again.provenance == model.provenance
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    assert all(parameter.requires_grad for parameter in again.parameters())
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "2×11×14" in card
    assert "digits" in card.partition("## Data")[2]


def test_a_run_folder_stands_for_its_best_model(folder: Path) -> None:
    assert convae.load(folder.parent).name == "torch-vae"


def test_the_folder_that_one_stands_in_is_a_model_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert convae.load(".").name == "torch-vae"
    monkeypatch.chdir("/")
    with pytest.raises(ArtifactError, match=r"no config\.json"):
        convae.load(".")


@settings(max_examples=60)
@given(data=st.data())
@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_flipped_bit_anywhere_is_refused(shared: Path, name: str, data: st.DataObject) -> None:
    path = shared / name
    content = path.read_bytes()
    place = data.draw(st.integers(0, len(content) - 1))
    bit = data.draw(st.integers(0, 7))
    damaged = bytearray(content)
    damaged[place] ^= 1 << bit
    path.write_bytes(bytes(damaged))
    try:
        with pytest.raises(ArtifactError) as caught:
            convae.load(shared)
        assert str(shared) in str(caught.value)
        assert "\n" not in str(caught.value)
    finally:
        path.write_bytes(content)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_file_is_refused(folder: Path, name: str, share: float) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(share * len(content))])
    with pytest.raises(ArtifactError, match=name):
        convae.load(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ArtifactError, match=name):
        convae.load(folder)


def test_a_missing_an_extra_and_a_misshapen_tensor_are_refused(folder: Path) -> None:
    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    first = next(iter(tensors))
    cases: list[tuple[dict[str, torch.Tensor], str]] = [
        ({name: tensor for name, tensor in tensors.items() if name != first}, "is missing"),
        (tensors | {"extra": torch.zeros(2)}, "tensors that the model does not have"),
        (tensors | {first: torch.zeros(1)}, "expected the shape"),
    ]
    for changed, part in cases:
        save_file(changed, weights)
        rewrite(folder, {"sha256": {name: digest(tensor) for name, tensor in changed.items()}})
        with pytest.raises(ArtifactError, match=part):
            convae.load(folder)


def test_a_newer_format_says_so(folder: Path) -> None:
    rewrite(folder, {"format": artifact.FORMAT + 1})
    with pytest.raises(ArtifactError, match=r"format 3 .*format 2"):
        convae.load(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"preset": "no-such"}},
        {"model": 3},
        {"sha256": []},
        {"provenance": None},
        {"model": {"input": [1, 8, 8], "encoder": ["conv"], "bottleneck": "gaussian", "decoder": []}},
    ],
)
def test_a_config_of_another_kind_is_refused(folder: Path, change: dict[str, Any]) -> None:
    rewrite(folder, change)
    with pytest.raises(ArtifactError, match=r"config\.json"):
        convae.load(folder)


@pytest.mark.parametrize("content", [b"[]", b"{}", b'"text"', b"\xff", b"[" * 100000])
def test_a_config_that_is_none_is_refused(folder: Path, content: bytes) -> None:
    (folder / "config.json").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"config\.json"):
        convae.load(folder)


def test_what_is_no_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name, part in [("nowhere", "no such folder"), (".", "no config.json"), ("file", "no config.json")]:
        with pytest.raises(ArtifactError, match=part):
            convae.load(tmp_path / name)


def test_a_run_without_a_model_is_to_be_continued(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("data: digits\n")
    with pytest.raises(ArtifactError, match="--resume"):
        convae.load(tmp_path)


def test_saving_again_replaces_the_whole_folder(model: VAE, folder: Path) -> None:
    model.provenance = Provenance(classes=("second",))
    convae.save(model, folder)
    assert convae.load(folder).provenance.classes == ("second",)
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_saving_deletes_nothing_that_is_not_an_artifact(model: VAE, folder: Path, tmp_path: Path) -> None:
    (folder / "thesis.txt").write_text("precious")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "config.json").write_text('{"architectures": ["BertModel"]}')
    (foreign / "model.safetensors").write_bytes(b"weights")
    for place, kept in ((folder, "thesis.txt"), (foreign, "model.safetensors")):
        before = (place / kept).read_bytes()
        with pytest.raises(OutputError, match=place.name):
            convae.save(model, place)
        assert (place / kept).read_bytes() == before


def test_a_link_to_an_artifact_is_followed(model: VAE, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    model.provenance = Provenance(classes=("second",))
    convae.save(model, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert convae.load(folder).provenance.classes == ("second",)


def test_the_home_directory_is_meant(model: VAE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    convae.save(model, "~/saved")
    assert (tmp_path / "saved" / "config.json").is_file()
    assert convae.load("~/saved").name == model.name


def test_an_artifact_that_is_replaced_while_it_is_read_is_sound(model: VAE, tmp_path: Path) -> None:
    place, done = tmp_path / "model", threading.Event()
    convae.save(model, place)

    def write() -> None:
        while not done.is_set():
            with torch.no_grad():
                next(model.parameters()).add_(1)
            convae.save(model, place)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(25):
            convae.load(place)
    finally:
        done.set()
        writer.join()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_pipe_in_an_artifact_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(ArtifactError, match="model"):
        convae.load(folder)


def test_a_save_that_fails_leaves_the_old_model(model: VAE, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(artifact, "write_json", full)
    with pytest.raises(OutputError, match="No space left"):
        convae.save(model, folder)
    assert convae.load(folder).spec == model.spec
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_a_crash_between_the_renames_loses_nothing(model: VAE, folder: Path) -> None:
    folder.rename(folder.with_name(".model.old"))
    assert convae.load(folder).spec == model.spec


def test_a_model_in_the_place_of_a_file_is_refused(model: VAE, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        convae.save(model, tmp_path / "file" / "model")


def test_a_copy_of_the_folder_elsewhere_works(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "else" / "where")
    assert convae.load(tmp_path / "else" / "where").latent_shape == (3,)


def test_weights_of_another_type_than_their_storage_are_refused(model: VAE, tmp_path: Path) -> None:
    folder = convae.save(model, tmp_path / "half", storage="float16")
    rewrite(folder, {"storage": "bfloat16"})
    with pytest.raises(ArtifactError, match="F16"):
        convae.load(folder)


def test_a_compiled_model_is_saved_as_itself(model: VAE, tmp_path: Path) -> None:
    compiled = narrow(torch.nn.Module, torch.compile(model, backend="eager"))
    again = convae.load(convae.save(compiled, tmp_path / "compiled"))
    assert again.spec == model.spec


def test_what_cannot_be_stored_truly_is_refused(model: VAE, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="only a VAE"):
        convae.save(model.encoder, tmp_path / "part")
    with pytest.raises(ConfigError, match=r"\.module"):
        convae.save(torch.nn.DataParallel(model), tmp_path / "part")
    mixed = copy.deepcopy(model)
    mixed.encoder.half()
    with pytest.raises(ArtifactError, match=r"float16.*float32|float32.*float16"):
        convae.save(mixed, tmp_path / "mixed")
    for value in (math.nan, math.inf):
        broken = copy.deepcopy(model)
        broken.get_buffer("encoder.1.running_var").fill_(value)
        with pytest.raises(ArtifactError, match=r"encoder\.1\.running_var.*NaN or infinity"):
            convae.save(broken, tmp_path / "broken")
    broken.get_buffer("encoder.1.running_var").fill_(-1e-9)
    with pytest.raises(ArtifactError, match=r"encoder\.1\.running_var.*negative variances"):
        convae.save(broken, tmp_path / "broken")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.float64, torch.int32, torch.bool, torch.uint8, torch.float8_e4m3fn]
)
@pytest.mark.parametrize("which", ["all", "one"])
def test_tensors_of_another_type_are_refused(folder: Path, dtype: torch.dtype, which: str) -> None:
    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    last = sorted(tensors)[-1]
    changed = {name: tensor.to(dtype) if which == "all" or name == last else tensor for name, tensor in tensors.items()}
    save_file(changed, weights)
    rewrite(folder, {"sha256": {name: digest(tensor) for name, tensor in changed.items()}})
    with pytest.raises(ArtifactError, match=r"model\.safetensors.*type"):
        convae.load(folder)


def test_weights_that_are_not_finite_are_told_when_they_are_loaded(folder: Path) -> None:
    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    name = sorted(tensors)[0]
    tensors[name].fill_(math.nan)
    save_file(tensors, weights)
    rewrite(folder, {"sha256": {key: digest(tensor) for key, tensor in tensors.items()}})
    with pytest.raises(ArtifactError, match=rf"{re.escape(name)}.*NaN or infinity"):
        convae.load(folder)


def test_a_file_of_many_empty_tensors_is_refused_before_its_header_is_read(folder: Path) -> None:
    header = 60 << 20
    with (folder / "model.safetensors").open("wb") as file:
        file.write(header.to_bytes(8, "little"))
        file.truncate(8 + header)
    with pytest.raises(ArtifactError, match="more tensors than its description"):
        convae.load(folder)


@pytest.mark.parametrize(
    "facts",
    [{"data": []}, {"data": "mnist"}, {"training": 3}, {"classes": {"a": 1}}, {"classes": [1, 2]}, {"splits": [1]}],
    ids=str,
)
def test_provenance_of_another_kind_is_refused(folder: Path, facts: dict[str, Any]) -> None:
    rewrite(folder, {"provenance": facts})
    with pytest.raises(ArtifactError, match=rf"config\.json.*{next(iter(facts))}"):
        convae.load(folder)
