"""Artifacts: saved models, each a portable folder.

    model/
      config.json         description of the network, provenance, and SHA-256 of each tensor
      model.safetensors   weights
      README.md           model card

Nothing is unpickled. Loading verifies the SHA-256 of every tensor and of the configuration.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_bytes
from torch import nn

from convae.core.checked_files import (
    digest,
    open_tensors,
    read_checked_json,
    read_checked_tensors,
    require_finite,
    with_checksum,
)
from convae.core.config import Config, parse
from convae.core.description import Spec
from convae.core.errors import ArtifactError, ConfigError, ConvaeError, ShapeError, TrustError
from convae.core.files import write_bytes, write_json, write_text
from convae.core.folders import new_folder, recover_folder
from convae.core.names import one_line, short_repr
from convae.core.paths import local_path
from convae.core.trust import trusted_packages, untrusted_names
from convae.core.version import VERSION
from convae.model.adapters import merged_state
from convae.model.card import model_card
from convae.model.construct import construct
from convae.model.fingerprint import module_classes
from convae.model.format_1 import config_of_format_1, tensor_names
from convae.model.pretrained import find_pretrained, missing_model_advice, model_path
from convae.model.provenance import Provenance
from convae.model.storage import DTYPES, DtypeName, Storage, StoragePrecision, dtype_name, file_dtype, to_file_dtypes
from convae.model.vae import VAE

FORMAT = 2
CONFIG = "config.json"
WEIGHTS = "model.safetensors"
CARD = "README.md"
MARK = (CONFIG, b'"convae"')
"""Content that distinguishes the configuration from files of the same name of other libraries."""
_TRIES = 50
"""Number of attempts to read an artifact that is replaced meanwhile."""


class Stored(Config):
    """The content of config.json.

    Attributes:
        format: version of the format.
        convae: version of convae that saved it.
        model: description of the network; None for a model made of modules.
        modules: class names of the parts of a model made of modules; None for a described model.
        provenance: classes, data and training.
        sha256: SHA-256 (hex) of each tensor.
        dtype: dtype of the weights.
        storage: dtype of the weights in the file, of all or by tensor; they are converted to `dtype` on loading. None
            for `dtype`.
    """

    format: int
    convae: str
    model: Spec | None = None
    modules: dict[str, str] | None = None
    provenance: Provenance
    sha256: dict[str, str]
    dtype: DtypeName = "float32"
    storage: StoragePrecision | dict[str, StoragePrecision] | None = None


def save(model: nn.Module, path: str | Path, *, storage: Storage = None) -> Path:
    """Saves a model as an artifact, atomically; an existing artifact is replaced, other files are not.

    Low-rank adapters become part of the weights.

    Args:
        model: a VAE whose weights have one floating-point dtype; may be compiled by `torch.compile`.
        path: a new or empty folder, an artifact, or a link to one; `~` is the home directory.
        storage: dtype of the weights in the file, for half the size; loading converts them back to the dtype of the
            model. One for all, or by names of `state_dict()`. By default the dtype of the model.

    Raises:
        ConfigError: not a VAE, or its modules were changed after it was built from a description; or `storage` names a
            tensor that it does not have.
        ArtifactError: weights are not finite, also in the dtype of the file, or have several dtypes.
        OutputError: the folder cannot be written, or has other files.
    """
    folder = local_path(path)
    model = getattr(model, "_orig_mod", model)
    if not isinstance(model, VAE):
        inner = ". Pass its .module" if isinstance(getattr(model, "module", None), VAE) else ""
        raise ConfigError(f"only a VAE can be saved, got {type(model).__name__}{inner}")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in merged_state(model).items()}
    precision = dtype_name(tensors)
    require_finite(tensors, f"model '{model.name}'")
    tensors = to_file_dtypes(tensors, storage)
    config: dict[str, Any] = {
        "format": FORMAT,
        "convae": VERSION,
        **_describe(model),
        "provenance": model.provenance.as_dict(),
        "sha256": {name: digest(tensor) for name, tensor in tensors.items()},
        **({} if precision == "float32" else {"dtype": precision}),
        **({} if storage is None else {"storage": storage if isinstance(storage, str) else dict(storage)}),
    }
    with new_folder(folder, (CONFIG, WEIGHTS, CARD), MARK) as place:
        write_bytes(place / WEIGHTS, to_bytes(tensors))
        write_json(place / CONFIG, with_checksum(config))
        write_text(place / CARD, model_card(model))
    return folder


def _describe(model: VAE) -> dict[str, Any]:
    """The entry of config.json for the network: its description, or the class names of its parts."""
    return {"model": model.spec.model_dump(mode="json")} if model.is_described else {"modules": module_classes(model)}


def load(
    path: str | os.PathLike[str],
    device: torch.device | str | None = None,
    *,
    model: VAE | None = None,
    trust: Iterable[str] = (),
) -> VAE:
    """Loads a model from an artifact, or the best model of a run, in evaluation mode.

    If the artifact is replaced while it is read, as during a training, it is read again.

    Args:
        path: artifact or run folder, or the name of a pretrained model, such as `digits/conditional`.
        device: device of the model; by default the CPU, or the device of `model`.
        model: model to load the weights into, which is returned; needed if the artifact is of a model made of
            modules.
        trust: packages outside convae whose code the artifact may import.

    Raises:
        ArtifactError: no artifact, or it is damaged or of a later format.
        TrustError: it needs code of a package that is not trusted.
    """
    path = model_path(path)
    with trusted_packages(trust):
        for _ in range(_TRIES):
            before = _identity(path)
            try:
                return _load(find(path), device, model)
            except ConvaeError:
                if _identity(path) == before:
                    raise
    raise ArtifactError(f"{path}: was replaced repeatedly during reading. Load it again, or load a copy")


def _identity(path: Path) -> tuple[int, int, int] | None:
    """Identity of the artifact at a path, which changes when it is replaced; None without an artifact."""
    try:
        found = (find(path) / CONFIG).stat()
    except (ArtifactError, OSError):
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _load(folder: Path, device: torch.device | str | None, given: VAE | None) -> VAE:
    """The model of an artifact folder."""
    stored, weights = read_config(folder), folder / WEIGHTS
    # An open file is not affected when the artifact is replaced.
    with open_tensors(weights, stored.sha256) as file:
        model = _without_weights(stored, folder / CONFIG) if given is None else given
        model.to(DTYPES[stored.dtype])
        expected = model.state_dict()
        names = tensor_names(stored.sha256, expected) if stored.format == 1 else {name: name for name in stored.sha256}
        if missing := expected.keys() - set(names.values()):
            raise ArtifactError(f"{weights}: tensor {short_repr(min(missing))} is missing")
        if set(names.values()) - expected.keys():
            raise ArtifactError(f"{weights}: has tensors that the model does not have")
        wanted = {name: expected[own] for name, own in names.items()}
        wanted = {name: each.to(file_dtype(name, each, stored.storage)) for name, each in wanted.items()}
        stored_tensors = read_checked_tensors(file, weights, stored.sha256, wanted)
        tensors = {own: stored_tensors[name].to(expected[own].dtype) for name, own in names.items()}
    require_finite(tensors, str(weights))
    model.load_state_dict(tensors, assign=given is None)
    model.provenance = stored.provenance
    if given is not None:
        return model.eval() if device is None else model.to(device).eval()
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return model.to(device or "cpu").eval()


def _without_weights(stored: Stored, config: Path) -> VAE:
    """Builds the model that an artifact describes, on the meta device.

    Raises:
        ArtifactError: it has no description, or an invalid one.
        TrustError: it needs code of a package that is not trusted.
    """
    if stored.model is None:
        parts = ", ".join(f"{part} {name}" for part, name in (stored.modules or {}).items())
        raise ArtifactError(
            f"{config}: has the weights of a model made of modules ({one_line(parts)}). Pass a model of "
            "the same modules: convae.load(path, model=...). Commands need a model with a description, whose modules "
            "are layers of a package: docs/extending.md"
        )
    try:
        with untrusted_names():
            return construct(stored.model)
    except TrustError as error:
        raise TrustError(f"{config}: {error}") from error
    except (ConfigError, ShapeError) as error:
        raise ArtifactError(f"{config}: this version cannot build the model ({one_line(error)})") from error


def read_description(path: str | Path) -> dict[str, Any]:
    """The description of the model in an artifact, or of the best model of a run, for a recipe.

    Raises:
        ArtifactError: no artifact, or its description is damaged or of a later format.
        TrustError: it needs code of a package that is not trusted.
    """
    stored = read_config(path)
    _without_weights(stored, find(Path(path)) / CONFIG)  # validates it, including trust of the names in it
    assert stored.model is not None  # checked by _without_weights
    return stored.model.model_dump(mode="json")


def read_config(path: str | Path) -> Stored:
    """Description and provenance of an artifact, or of the best model of a run, without its weights.

    Raises:
        ArtifactError: no artifact, or its description is damaged or of a later format.
    """
    config = find(Path(path)) / CONFIG
    try:
        content = read_checked_json(config, FORMAT)
        if content["format"] == 1:
            content = config_of_format_1(content)
        return parse(Stored, content, "its content")
    except ConfigError as error:
        raise ArtifactError(f"{config}: this version cannot build the model ({one_line(error)})") from error


def find(path: Path) -> Path:
    """The artifact folder at `path`: the folder itself, `model/` in a run folder, or that of a pretrained model.

    Raises:
        ArtifactError: no artifact there.
    """
    for folder in (recover_folder(path), recover_folder(path / "model")):
        if (folder / CONFIG).is_file():
            return folder
    if (path / "recipe.yaml").is_file():
        raise ArtifactError(
            f"{path}: this run has no model yet; its first validation saves one. Continue it: "
            f"convae train --resume {path}"
        )
    if path.exists():
        raise ArtifactError(f"{path}: no {CONFIG} there or in model/. Pass an artifact or a run folder")
    found = find_pretrained(path)
    if found is None:
        raise ArtifactError(f"{path}: no such folder. {missing_model_advice(path)}")
    return find(found)


def find_run(path: Path) -> Path | None:
    """The run of an artifact: the run folder itself, or that whose best or last model it is; None without one."""
    place = path.resolve()
    return next((run for run in (place, place.parent) if (run / "recipe.yaml").is_file()), None)
