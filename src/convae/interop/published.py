"""Configuration and weights files of published models."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convae.core.documents import read_mapping
from convae.core.errors import ArtifactError, ConfigError
from convae.core.names import short_repr
from convae.model.weights import State, read_state, read_weights, sha256_of

CONFIG = "config.json"
SUBFOLDERS = ("", "vae", "vqvae", "vqgan", "movq")
"""Subfolders of diffusers pipelines that may contain an autoencoder."""
WEIGHTS = (
    "diffusion_pytorch_model.safetensors",
    "model.safetensors",
    "diffusion_pytorch_model.bf16.safetensors",
    "diffusion_pytorch_model.fp16.safetensors",
)
"""File names of weights, in order of preference."""
_SHARD = re.compile(r"[\w.-]{1,200}-\d{5}-of-\d{5}\.safetensors")
_WEIGHT_MAP = "weight_map"
"""Key of an index with the file of each tensor."""


@dataclass(frozen=True)
class PublishedFiles:
    """The files of a published model.

    Attributes:
        weights: path of the weights file, or of the index of several.
        config: content of `config.json`; None for a single file without one.
    """

    weights: Path
    config: dict[str, Any] | None

    @property
    def is_sharded(self) -> bool:
        """Whether the weights are in several files."""
        return self.weights.name in map(index_name, WEIGHTS)

    def read(self, key: str | None = None) -> tuple[State, list[str]]:
        """The tensors by name, with notes on what was chosen.

        Args:
            key: key of the weights in a checkpoint with several models.

        Raises:
            ArtifactError: a file is missing or damaged, or the index does not match the files.
            ConfigError: there are several models, or none under `key`.
        """
        if not self.is_sharded:
            return read_weights(self.weights, key)
        if key is not None:
            raise ConfigError(f"key: {self.weights} is the index of one model. Leave key out")
        files = _weight_map(self.weights)
        state: State = {}
        for name in sorted(set(files.values())):
            found = read_state(self.weights.with_name(name))
            for tensor in found:
                if files.get(tensor) != name:
                    raise ArtifactError(f"{self.weights}: does not list {short_repr(tensor)} of {name}")
            state |= found
        if missing := sorted(files.keys() - state.keys()):
            raise ArtifactError(f"{self.weights}: {files[missing[0]]} lacks the tensor {short_repr(missing[0])}")
        return state, []

    def sha256(self) -> str:
        """SHA-256 (hex) of the weights file; of several files, that of their digests in order of their names.

        Raises:
            ArtifactError: a file cannot be read.
        """
        if not self.is_sharded:
            return sha256_of(self.weights)
        names = sorted(set(_weight_map(self.weights).values()))
        return hashlib.sha256("".join(sha256_of(self.weights.with_name(name)) for name in names).encode()).hexdigest()


def index_name(weights: str) -> str:
    """The name of the index of weights that are divided into several files, such as those of large models."""
    stem, *variant, suffix = weights.split(".")
    return ".".join([stem, suffix, "index", *variant, "json"])


def shard_names(weights: str, names: Iterable[str]) -> list[str]:
    """The names of the files that weights are divided into, among others.

    Args:
        weights: name of the weights as one file.
        names: names of files in one folder.
    """
    stem = weights.removesuffix(".safetensors")
    return sorted(name for name in names if re.fullmatch(rf"{re.escape(stem)}-\d{{5}}-of-\d{{5}}\.safetensors", name))


def find_published(path: Path) -> PublishedFiles:
    """Finds the files of a published model: in a folder of a diffusers model or pipeline, or a single weights file.

    A `config.json` next to a `.safetensors` file, or an index of several, is its configuration if it names a class.

    Raises:
        ArtifactError: there are no weights, or only pickled ones.
        ConfigError: the configuration cannot be read.
    """
    if not path.is_dir():
        config, files = path.with_name(CONFIG), PublishedFiles(path, None)
        if not (path.suffix == ".safetensors" or files.is_sharded) or not config.is_file():
            return files
        beside = read_mapping(config)
        return PublishedFiles(path, beside if "_class_name" in beside else None)
    for folder in (path / name for name in SUBFOLDERS):
        if (folder / CONFIG).is_file():
            return PublishedFiles(_weights(folder), read_mapping(folder / CONFIG))
    raise ArtifactError(f"{path}: {CONFIG} is missing. Pass the folder of a diffusers model, or a weights file")


def _weights(folder: Path) -> Path:
    """The weights file in a folder, or the index of several."""
    for name in WEIGHTS:
        for each in (name, index_name(name)):
            if (folder / each).exists():
                return folder / each
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt*")) or any(folder.glob("*.ckpt")):
        raise ArtifactError(
            f"{folder}: the weights are pickled, and reading them could run code. Get {WEIGHTS[0]}, or convert them by "
            "save_pretrained(folder, safe_serialization=True)"
        )
    raise ArtifactError(f"{folder}: {WEIGHTS[0]} is missing")


def _weight_map(index: Path) -> dict[str, str]:
    """The file of each tensor, by an index; files are beside it."""
    try:
        found = read_mapping(index).get(_WEIGHT_MAP)
    except ConfigError as error:
        raise ArtifactError(str(error)) from error
    if not isinstance(found, dict) or not found:
        raise ArtifactError(f"{index}: has no {_WEIGHT_MAP} with the file of each tensor")
    for name in found.values():
        if not isinstance(name, str) or not _SHARD.fullmatch(name):
            raise ArtifactError(f"{index}: {short_repr(name)} is not the name of a file of weights")
    return {str(tensor): name for tensor, name in found.items()}
