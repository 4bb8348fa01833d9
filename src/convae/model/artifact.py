"""Artifacts: a model as one safe, complete, portable folder.

    model/
      config.json         the description of the network, where it came from, and a SHA-256 of each tensor
      model.safetensors   the weights
      README.md           what it is and how to use it

Nothing is ever unpickled. Loading checks every tensor against its SHA-256, and the configuration against its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from convae.core.config import Config, parse
from convae.core.errors import ArtifactError, ConfigError, ShapeError
from convae.core.files import new_folder, open_regular, read_bytes, settled, write_bytes, write_json, write_text
from convae.core.names import brief, shape_text, shown
from convae.core.paths import local_path
from convae.core.version import VERSION
from convae.model.card import model_card
from convae.model.description import Spec
from convae.model.vae import VAE

FORMAT = 1
CONFIG = "config.json"
WEIGHTS = "model.safetensors"
CARD = "README.md"
_SEAL = "config_sha256"
_MARK = (CONFIG, b'"convae"')
"""What tells an artifact's configuration from that of other libraries, whose files have the same names."""
_LARGEST = 64 << 20
"""Bytes of the largest configuration or state that is read."""
_TRIES = 50
"""How often an artifact that is replaced while it is read is read again."""


class Stored(Config):
    """The content of config.json."""

    format: int
    convae: str
    model: Spec
    metadata: dict[str, Any]
    sha256: dict[str, str]


def save(model: VAE, path: str | Path) -> Path:
    """Writes an artifact, whole or not at all; an artifact that is there already is replaced, and nothing else is.

    Args:
        model: with its weights.
        path: a new or empty folder, an artifact, or a link to one of them; `~` is the home directory.

    Raises:
        OutputError: the folder cannot be written, or holds something that is not an artifact's.
    """
    folder = local_path(path)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    config: dict[str, Any] = {
        "format": FORMAT,
        "convae": VERSION,
        "model": model.spec.model_dump(mode="json"),
        "metadata": model.metadata,
        "sha256": {name: digest(tensor) for name, tensor in tensors.items()},
    }
    with new_folder(folder, (CONFIG, WEIGHTS, CARD), _MARK) as place:
        write_bytes(place / WEIGHTS, to_bytes(tensors))
        write_json(place / CONFIG, sealed(config))
        write_text(place / CARD, model_card(model))
    return folder


def load(path: str | Path, device: torch.device | str = "cpu") -> VAE:
    """A model from an artifact folder, or from a run folder, whose best model it takes; in evaluation mode.

    An artifact that a training run replaces meanwhile is read again, so that all of it is of one moment.

    Raises:
        ArtifactError: there is no artifact, or it is damaged, or of a later format.
    """
    path = local_path(path)
    for _ in range(_TRIES):
        before = _identity(path)
        try:
            return _load(find(path), device)
        except ArtifactError:
            if _identity(path) == before:
                raise
    raise ArtifactError(f"{path}: is replaced faster than it can be read")


def _identity(path: Path) -> tuple[int, int, int] | None:
    """What changes when the artifact at a path is replaced; None where there is none at this moment."""
    try:
        found = (find(path) / CONFIG).stat()
    except (ArtifactError, OSError):
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _load(folder: Path, device: torch.device | str) -> VAE:
    """The model of an artifact folder."""
    stored = read_config(folder)
    try:
        model = VAE(stored.model)
    except (ConfigError, ShapeError) as error:
        raise ArtifactError(
            f"{folder / CONFIG}: describes no model that this version can build ({brief(error)})"
        ) from error
    expected = model.state_dict()
    tensors = read_tensors(folder / WEIGHTS, stored.sha256)
    for name, wanted in expected.items():
        if name not in tensors or tensors[name].shape != wanted.shape:
            raise ArtifactError(
                f"{folder / WEIGHTS}: tensor '{name}' is missing or has not the shape {shape_text(wanted.shape)}"
            )
    if len(tensors) != len(expected):
        raise ArtifactError(f"{folder / WEIGHTS}: holds tensors that the model does not have")
    model.load_state_dict(tensors, assign=True)
    model.metadata = stored.metadata
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return model.to(device).eval()


def read_config(path: str | Path) -> Stored:
    """The description and metadata of an artifact or a run's best model, without its weights.

    Raises:
        ArtifactError: there is no artifact, or its description is damaged or of a later format.
    """
    config = find(Path(path)) / CONFIG
    try:
        return parse(Stored, read_sealed(config, FORMAT), "its content")
    except ConfigError as error:
        raise ArtifactError(f"{config}: describes no model that this version can build ({brief(error)})") from error


def find(path: Path) -> Path:
    """The artifact folder at `path`: itself, or the `model` folder of the run that it is.

    Raises:
        ArtifactError: there is none.
    """
    for folder in (settled(path), settled(path / "model")):
        if (folder / CONFIG).is_file():
            return folder
    missing = "no such folder" if not path.exists() else f"holds no {CONFIG}, neither itself nor in model/"
    raise ArtifactError(f"{path}: {missing}, so no model can be loaded from it")


def digest(tensor: Tensor) -> str:
    """SHA-256 of a tensor's dtype, shape and bytes."""
    flat = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
    head = f"{tensor.dtype} {tuple(tensor.shape)} ".encode()
    found = hashlib.sha256(head)
    found.update(flat.numpy().data)
    return found.hexdigest()


def fingerprint(model: VAE) -> str:
    """SHA-256 (hex) of a model's description and weights: what two models share that compute the same.

    The name and where a model came from play no part.
    """
    described = model.spec.model_dump(mode="json", exclude={"name"})
    weights = {name: digest(tensor) for name, tensor in model.state_dict().items()}
    return hashlib.sha256(json.dumps([described, weights], sort_keys=True).encode()).hexdigest()


def read_tensors(path: Path, sha256: Mapping[str, str]) -> dict[str, Tensor]:
    """The tensors of a safetensors file, each checked.

    Raises:
        ArtifactError: the file is missing or damaged, or its tensors are not those with these SHA-256.
    """
    try:
        with open_regular(path):
            pass  # A pipe or a device would be waited for.
        with safe_open(path, framework="pt") as file:
            # Copies: what is mapped from the file would change with it after it was checked.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118  # not a mapping
    except (OSError, SafetensorError, ValueError, RuntimeError) as error:
        raise ArtifactError(f"{path}: damaged or not a safetensors file ({brief(error)})") from error
    for name, tensor in tensors.items():
        if sha256.get(name) != digest(tensor):
            raise ArtifactError(f"{path}: tensor {shown(name)} is damaged: its SHA-256 is not the recorded one")
    if missing := sha256.keys() - tensors.keys():
        raise ArtifactError(f"{path}: tensor {shown(min(missing))} is missing")
    return tensors


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """What a JSON file says, with a SHA-256 of it, which `read_sealed` checks."""
    return {**content, _SEAL: hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()}


def read_sealed(path: Path, newest: int) -> dict[str, Any]:
    """The content of a JSON file that `sealed` made, without its seal.

    Args:
        path: the file.
        newest: the latest `format` of it that is known.

    Raises:
        ArtifactError: it is missing, damaged, edited, or of a later format.
    """
    try:
        content = json.loads(read_bytes(path, _LARGEST))
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path}: damaged or unreadable ({brief(error)})") from error
    if not isinstance(content, dict) or not isinstance(content.get("format"), int):
        raise ArtifactError(f"{path}: damaged, or not a file of convae")
    if content["format"] > newest:
        raise ArtifactError(f"{path}: format {content['format']} is newer than this version of convae reads ({newest})")
    seal = content.pop(_SEAL, None)
    if seal != sealed(content)[_SEAL]:
        raise ArtifactError(f"{path}: damaged or edited: its SHA-256 is not the recorded one")
    return content
