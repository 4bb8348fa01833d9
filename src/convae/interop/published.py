"""Configuration and weights files of published models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convae.core.documents import read_mapping
from convae.core.errors import ArtifactError

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


@dataclass(frozen=True)
class PublishedFiles:
    """The files of a published model.

    Attributes:
        weights: path of the weights file.
        config: content of `config.json`; None for a single file without one.
    """

    weights: Path
    config: dict[str, Any] | None


def find_published(path: Path) -> PublishedFiles:
    """Finds the files of a published model: in a folder of a diffusers model or pipeline, or a single weights file.

    A `config.json` next to a `.safetensors` file is its configuration if it names a class.

    Raises:
        ArtifactError: there are no weights, or only pickled ones.
        ConfigError: the configuration cannot be read.
    """
    if not path.is_dir():
        config = path.with_name(CONFIG)
        if path.suffix != ".safetensors" or not config.is_file():
            return PublishedFiles(path, None)
        beside = read_mapping(config)
        return PublishedFiles(path, beside if "_class_name" in beside else None)
    for folder in (path / name for name in SUBFOLDERS):
        if (folder / CONFIG).is_file():
            return PublishedFiles(_weights(folder), read_mapping(folder / CONFIG))
    raise ArtifactError(f"{path}: {CONFIG} is missing. Pass the folder of a diffusers model, or a weights file")


def _weights(folder: Path) -> Path:
    """The weights file in a folder."""
    for name in WEIGHTS:
        if (folder / name).exists():
            return folder / name
    if (folder / f"{WEIGHTS[0]}.index.json").exists():
        raise ArtifactError(f"{folder}: sharded weights are not supported. Save them as a single file")
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt*")) or any(folder.glob("*.ckpt")):
        raise ArtifactError(
            f"{folder}: the weights are pickled, and reading them could run code. Get {WEIGHTS[0]}, or convert them by "
            "save_pretrained(folder, safe_serialization=True)"
        )
    raise ArtifactError(f"{folder}: {WEIGHTS[0]} is missing")
