"""Finding configuration and weights of a published model on the disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convae.core.documents import read_mapping
from convae.core.errors import ArtifactError

CONFIG = "config.json"
SUBFOLDERS = ("", "vae", "vqvae", "vqgan", "movq")
"""Where a pipeline of diffusers has its autoencoder."""
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
        weights: the file of weights.
        config: the content of its `config.json`; None for a single file without one.
    """

    weights: Path
    config: dict[str, Any] | None


def find_published(path: Path) -> PublishedFiles:
    """The files of a published model: a folder of diffusers, the folder of a pipeline, or a single file.

    The `config.json` beside a single file of safetensors is its configuration, if it names a class.

    Raises:
        ArtifactError: no weights there, or only pickled ones.
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
    raise ArtifactError(f"{path}: has no {CONFIG}. Give the folder of a model of diffusers, or a file of weights")


def _weights(folder: Path) -> Path:
    """The file of weights in a folder."""
    for name in WEIGHTS:
        if (folder / name).exists():
            return folder / name
    if (folder / f"{WEIGHTS[0]}.index.json").exists():
        raise ArtifactError(f"{folder}: its weights are in several files, which is not supported. Join them in one")
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt*")) or any(folder.glob("*.ckpt")):
        raise ArtifactError(
            f"{folder}: its weights are pickled, and reading them could run code. Get {WEIGHTS[0]}, or convert them: "
            "save_pretrained(folder, safe_serialization=True)"
        )
    raise ArtifactError(f"{folder}: has no {WEIGHTS[0]}")
