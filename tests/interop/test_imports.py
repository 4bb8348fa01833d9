"""Foreign checkpoints become models that give the originals' outputs; what is none is refused by a sentence."""

from __future__ import annotations

import argparse
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from originals import ImageVAE, TorchVAE, randomize
from safetensors.torch import save_file
from torch import nn

import convae
from convae.core.errors import ArtifactError, ConfigError
from convae.interop import IMPORTERS, import_model
from convae.interop.base import ImportedModel
from convae.model.weights import read_state, read_weights

ORIGINALS: list[tuple[str, nn.Module, tuple[int, ...], str]] = [
    ("torch-vae", TorchVAE(3, latent=5, most=16), (3, 64, 64), "10 tensors"),
    ("torch-vae", TorchVAE(1, latent=2, most=8, side=4), (1, 32, 32), "shortcut"),
    ("image-vae", ImageVAE(latent=2), (1, 28, 28), ""),
    ("image-vae", ImageVAE(latent=4, classes=10), (1, 28, 28), "10 classes"),
]
SHORTCUTS = 8


def imported(path: Path, name: str) -> ImportedModel:
    result: ImportedModel = IMPORTERS.get(name)(read_state(path))
    return result


@pytest.mark.parametrize(("name", "original", "shape", "note"), ORIGINALS)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_an_imported_model_gives_the_originals_outputs(
    name: str, original: nn.Module, shape: tuple[int, ...], note: str, suffix: str, tmp_path: Path
) -> None:
    randomize(original)
    state = {key: tensor.clone() for key, tensor in original.state_dict().items()}
    path = tmp_path / f"weights{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    result = imported(path, name)
    assert note.replace("10 tensors", f"{SHORTCUTS} tensors") in " ".join(result.notes)
    model = convae.load(convae.save(result.model, tmp_path / "model"))
    assert model.input_shape == shape
    x = torch.rand(4, *shape)
    with torch.no_grad():
        mean, logvar, image = original.eval()(x)
        out = model(x)
    assert (out.posterior.mean - mean).abs().max() < 1e-5
    assert (out.posterior.logvar - logvar).abs().max() < 1e-5
    assert (out.likelihood.mean - image).abs().max() < 1e-5
    if isinstance(original, ImageVAE) and hasattr(original, "classifier"):
        assert (model.classify(mean) - original.classify(mean)).abs().max() < 1e-5
    else:
        assert model.classifier is None


class Bad:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("code in the file was run",))


def write(path: Path, content: object) -> Path:
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ({"weights": Bad()}, "run code"),
        (pickle.dumps(Bad()), "run code"),
        (b"", "weights.pth"),
        (b"not a checkpoint", "weights.pth"),
        (b"junk", "damaged"),
        ([torch.zeros(2)], "dictionary"),
        ({"epoch": 3}, "dictionary"),
        ({}, "dictionary"),
    ],
)
def test_only_dictionaries_of_tensors_are_read(content: object, part: str, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError) as caught:
        read_state(write(tmp_path / "weights.pth", content))
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_and_truncated_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"none\.pth: cannot be read"):
        read_state(tmp_path / "none.pth")
    with pytest.raises(ArtifactError, match="no such file"):
        import_model(str(tmp_path / "none"))
    path = write(tmp_path / "weights.pth", TorchVAE(1, 2, 8).state_dict())
    path.write_bytes(path.read_bytes()[:-900])
    with pytest.raises(ArtifactError, match=r"weights\.pth"):
        read_state(path)


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_only_regular_files_are_read(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    os.mkfifo(path) if kind == "pipe" else path.symlink_to("/dev/zero")
    with pytest.raises(ArtifactError, match="not a regular file"):
        read_state(path)


def test_weights_are_found_in_a_checkpoint_with_other_content(tmp_path: Path) -> None:
    path = write(tmp_path / "weights.pth", {"state_dict": ImageVAE(2).state_dict(), "hparams": {"latent_dim": 2}})
    assert imported(path, "image-vae").model.latent_shape == (2,)


@pytest.mark.parametrize("name", ["torch-vae", "image-vae"])
def test_tensors_of_another_network_are_refused(name: str, tmp_path: Path) -> None:
    theirs = {"torch-vae": TorchVAE(1, 2, 8), "image-vae": ImageVAE(2)}[name].state_dict()
    first = next(iter(theirs))
    dense = next(key for key in theirs if key.endswith(("lin1.weight", "affine.weight")))
    cases = [
        ({"layer.weight": torch.zeros(2, 2)}, "is missing"),
        ({key: tensor for key, tensor in theirs.items() if key != first}, "is missing"),
        (theirs | {"extra": torch.zeros(1)}, "'extra'"),
        (theirs | {first: theirs[first].flatten(1)}, first),
        (theirs | {dense: theirs[dense][:-1]}, ""),
    ]
    for state, part in cases:
        with pytest.raises(ArtifactError, match=name) as caught:
            imported(write(tmp_path / "weights.pth", state), name)
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("name", "original"), [("torch-vae", TorchVAE(1, 2, 8, side=2)), ("image-vae", ImageVAE(2, classes=10))]
)
def test_any_tensor_of_a_wrong_shape_is_an_artifact_error(name: str, original: nn.Module) -> None:
    state = original.state_dict()
    for key, tensor in state.items():
        if ".shortcut" in key or key.endswith("num_batches_tracked"):
            continue
        for wrong in (
            torch.zeros(()),
            torch.zeros(0),
            torch.zeros(2, 3, 4, 5, 6),
            tensor.repeat(3, *[1] * (tensor.ndim - 1)),
        ):
            if wrong.shape != tensor.shape and not (tensor.ndim == 1 and len(tensor) == 1):
                with pytest.raises(ArtifactError, match=name):
                    IMPORTERS.get(name)({**state, key: wrong})


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module.", "model.", "module.net."])
def test_prefixes_of_wrappers_are_removed_with_a_note(prefix: str, tmp_path: Path) -> None:
    plain = TorchVAE(1, 2, 8).state_dict()
    state, notes = read_weights(write(tmp_path / "w.pth", {prefix + name: value for name, value in plain.items()}))
    assert state.keys() == plain.keys()
    assert f"'{prefix}'" in " ".join(notes)


@pytest.mark.parametrize("place", ["state_dict", "model_state_dict", "model", "net", "ema", "checkpoint.state_dict"])
def test_weights_are_found_under_common_keys_with_a_note(place: str, tmp_path: Path) -> None:
    plain = TorchVAE(1, 2, 8).state_dict()
    content: Any = {f"module.{name}": value for name, value in plain.items()}
    for key in reversed(place.split(".")):
        content = {key: content}
    content |= {"epoch": 3, "optimizer_state_dict": {"state": {0: {"exp_avg": torch.zeros(2)}}}}
    state, notes = read_weights(write(tmp_path / "w.pth", content))
    assert state.keys() == plain.keys()
    assert f"'{place}'" in " ".join(notes)


def test_a_file_of_several_models_needs_a_key(tmp_path: Path) -> None:
    path = write(tmp_path / "w.pth", {"model": {"a": torch.zeros(1)}, "ema": {"a": torch.ones(1)}})
    with pytest.raises(ConfigError, match=r"--key.*'model'.*'ema'"):
        read_weights(path)
    assert read_weights(path, "ema")[0]["a"] == 1
    with pytest.raises(ConfigError, match="'model'"):
        read_weights(path, "nothing")


@pytest.mark.parametrize(("beside", "named"), [(argparse.Namespace(lr=1), "Namespace"), (np.float64(1.5), "scalar")])
def test_pickled_objects_are_named_with_a_fix(beside: Any, named: str, tmp_path: Path) -> None:
    path = write(tmp_path / "w.pth", {"state_dict": TorchVAE(1, 2, 8).state_dict(), "args": beside})
    with pytest.raises(ArtifactError, match=rf"{named}.*torch\.save\(model\.state_dict\(\)"):
        read_weights(path)


@pytest.mark.parametrize("left", [0, 1, 30, 300, -900, -1])
def test_truncation_is_reported_as_such(left: int, tmp_path: Path) -> None:
    path = write(tmp_path / "w.pth", TorchVAE(1, 2, 8).state_dict())
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(ArtifactError, match=r"w\.pth: .*(truncated|empty|damaged)") as caught:
        read_weights(path)
    assert "Invalid argument" not in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_must_be_finite(value: float) -> None:
    state = TorchVAE(1, 2, 8).state_dict()
    state["encoder.conv1.weight"].fill_(value)
    with pytest.raises(ArtifactError, match=r"encoder\.0\.weight"):
        IMPORTERS.get("torch-vae")(state)


def test_weights_must_be_floats() -> None:
    state = {key: value.long() for key, value in TorchVAE(1, 2, 8).state_dict().items()}
    with pytest.raises(ArtifactError, match="int64"):
        IMPORTERS.get("torch-vae")(state)
