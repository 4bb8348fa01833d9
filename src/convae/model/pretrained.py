"""Pretrained models by name: the index that comes with convae, and the folders in which models are found.

    digits/conditional ── $CONVAE_MODELS, models/ of a checkout, the cache ──> folder of an artifact

`convae pull NAME` brings a model of the index into the cache; the index has size and SHA-256 of each of its files.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Annotated

from pydantic import Field

from convae.core.cache import cache_directory
from convae.core.config import Config, parse
from convae.core.documents import read_mapping
from convae.core.names import nearest_name
from convae.core.paths import PathLookup, absolute_path, local_path
from convae.core.types import Shape

FOLDERS = "CONVAE_MODELS"
"""The environment variable that names a folder of models, or where `convae pull` gets them."""
INDEX = Path(__file__).with_name("pretrained.json")
FORMAT = 1
"""Version of the index."""
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,60}(/[a-z0-9][a-z0-9.-]{0,60})+")
_CHECKOUT = Path(__file__).parents[3]


class PretrainedFile(Config):
    """A file of a pretrained model."""

    size: int = Field(gt=0)
    """Bytes."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """SHA-256 (hex)."""


class PretrainedModel(Config):
    """A model of the index."""

    description: str
    """What it is, in one line."""
    data: str
    """Data set of the training."""
    license: str
    """License of the data set."""
    input: Shape
    """Shape of an image: (channel, *sizes)."""
    latent: Shape
    """Shape of the latent."""
    parameters: int
    """Number of parameters."""
    metrics: dict[str, float]
    """Metrics of the test images, from its card."""
    files: dict[Annotated[str, Field(pattern=r"^[a-zA-Z0-9][\w.-]{0,100}$")], PretrainedFile]
    """Its files by name."""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files.values())


class _Index(Config):
    format: int
    models: dict[Annotated[str, Field(pattern=f"^{_NAME.pattern}$")], PretrainedModel]


def read_index() -> Mapping[str, PretrainedModel]:
    """The pretrained models by name."""
    return _read(INDEX)


@functools.cache
def _read(path: Path) -> Mapping[str, PretrainedModel]:
    return parse(_Index, read_mapping(path), str(path)).models


def pretrained_cache() -> Path:
    """The folder of the cache that holds pulled models by name."""
    return cache_directory() / "pretrained"


def pretrained_folders() -> list[Path]:
    """The folders that are searched for models by name: `$CONVAE_MODELS`, `models/` of a checkout, and the cache."""
    given = os.environ.get(FOLDERS, "")
    named = [local_path(given)] if given and "://" not in given and not given.startswith("hf:") else []
    is_checkout = (_CHECKOUT / "pyproject.toml").is_file() and _CHECKOUT / "src" in Path(__file__).parents
    return [*named, *([_CHECKOUT / "models"] if is_checkout else []), pretrained_cache()]


def is_model_name(written: str | os.PathLike[str]) -> bool:
    """Whether a text has the form of a name: lower-case words separated by slashes, such as `digits/torch-vae-2`."""
    return _NAME.fullmatch(PurePath(written).as_posix()) is not None and ".." not in str(written)


def find_pretrained(written: str | os.PathLike[str]) -> Path | None:
    """The folder of a pretrained model; None if there is none, or the text is no name."""
    if not is_model_name(written):
        return None
    return next((place for folder in pretrained_folders() if (place := folder / written).is_dir()), None)


def model_path(written: str | os.PathLike[str], folder: Path | None = None) -> Path:
    """The path of a model: one that exists, the folder of the pretrained model of that name, or else as written.

    Args:
        written: a path, or the name of a pretrained model.
        folder: base of a relative path, which makes the result absolute; by default the working directory.

    Raises:
        ConfigError: it is a URL or contains a NUL character.
    """
    path = local_path(written) if folder is None else absolute_path(written, folder)
    found = None if path.exists() else find_pretrained(written)
    return path if found is None else found.absolute()


ModelPath = Annotated[Path, PathLookup(model_path)]
"""The path of a model, or the name of a pretrained model, as an argument of an entry of a recipe."""


def missing_model_advice(written: str | os.PathLike[str]) -> str:
    """Advice for a model that was not found: how to get it, a similar name, or what to pass."""
    name, index = PurePath(written).as_posix(), read_index()
    if name in index:
        return f"It is a pretrained model: get it with `convae pull {name}`"
    similar = nearest_name(name, index, cutoff=0.6)
    if similar is not None:
        return f"Did you mean the pretrained model '{similar}'?"
    return "Pass an artifact or a run folder, or the name of a pretrained model (`convae models`)"
