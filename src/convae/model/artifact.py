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
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

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
from convae.core.files import (
    new_folder,
    recover_folder,
    write_bytes,
    write_json,
    write_text,
)
from convae.core.names import one_line, short_repr
from convae.core.paths import local_path
from convae.core.trust import trusted_packages, untrusted_names
from convae.core.version import VERSION
from convae.model.card import model_card
from convae.model.construct import construct
from convae.model.format_1 import config_of_format_1, tensor_names
from convae.model.provenance import Provenance
from convae.model.vae import VAE

FORMAT = 2
CONFIG = "config.json"
WEIGHTS = "model.safetensors"
CARD = "README.md"
_MARK = (CONFIG, b'"convae"')
"""What tells an artifact's configuration from that of other libraries, whose files have the same names."""
_TRIES = 50
"""How often an artifact that is replaced while it is read is read again."""
Precision = Literal["float16", "bfloat16", "float32", "float64"]
_PRECISIONS: dict[Precision, torch.dtype] = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
}


class Stored(Config):
    """The content of config.json.

    Attributes:
        format: version of the layout.
        convae: version of convae that wrote it.
        model: the description of the network; None of a model that was made of modules.
        modules: class names of the parts of a model that was made of modules; None of a described model.
        provenance: where the model came from.
        sha256: of each tensor.
        dtype: of the weights.
    """

    format: int
    convae: str
    model: Spec | None = None
    modules: dict[str, str] | None = None
    provenance: Provenance
    sha256: dict[str, str]
    dtype: Precision = "float32"


def save(model: nn.Module, path: str | Path) -> Path:
    """Writes an artifact, whole or not at all; an artifact that is there already is replaced, and nothing else is.

    Args:
        model: a VAE with its weights, all of one floating type, or what `torch.compile` made of it.
        path: a new or empty folder, an artifact, or a link to one of them; `~` is the home directory.

    Raises:
        ConfigError: it is no VAE, or was changed after it was built, so that its description is not true.
        ArtifactError: its weights are not finite, or of several types.
        OutputError: the folder cannot be written, or holds something that is not an artifact's.
    """
    folder = local_path(path)
    model = getattr(model, "_orig_mod", model)
    if not isinstance(model, VAE):
        inner = ": give its .module" if isinstance(getattr(model, "module", None), VAE) else ""
        raise ConfigError(f"only a VAE can be saved, got {type(model).__name__}{inner}")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    precision = _precision(tensors)
    require_finite(tensors, f"model '{model.name}'")
    config: dict[str, Any] = {
        "format": FORMAT,
        "convae": VERSION,
        **_describe(model),
        "provenance": model.provenance.as_dict(),
        "sha256": {name: digest(tensor) for name, tensor in tensors.items()},
        **({} if precision == "float32" else {"dtype": precision}),
    }
    with new_folder(folder, (CONFIG, WEIGHTS, CARD), _MARK) as place:
        write_bytes(place / WEIGHTS, to_bytes(tensors))
        write_json(place / CONFIG, with_checksum(config))
        write_text(place / CARD, model_card(model))
    return folder


def module_classes(model: VAE) -> dict[str, str]:
    """The class of each part of a model, with its module, by the name of the part."""
    return {name: f"{type(part).__module__}.{type(part).__qualname__}" for name, part in model.named_children()}


def _describe(model: VAE) -> dict[str, Any]:
    """The entry of an artifact for the network: its description, or the classes of the modules it was made of."""
    return {"model": model.spec.model_dump(mode="json")} if model.is_described else {"modules": module_classes(model)}


def _precision(tensors: Mapping[str, Tensor]) -> Precision:
    """The one floating type of a model's tensors; integers, such as counters, are stored as they are.

    Raises:
        ArtifactError: there are several, or one that is not stored.
    """
    floating = [(name, tensor) for name, tensor in tensors.items() if tensor.is_floating_point()]
    types = {tensor.dtype: name for name, tensor in reversed(floating)}
    known = {dtype: precision for precision, dtype in _PRECISIONS.items()}
    for dtype, name in types.items():
        if dtype not in known:
            raise ArtifactError(f"tensor '{name}' is {dtype}: convert the model first, such as with model.float()")
    if len(types) > 1:
        (one, first), (other, second), *_ = types.items()
        raise ArtifactError(
            f"tensor '{first}' is {one} and '{second}' is {other}: convert the whole model, such as with model.float()"
        )
    return known[next(iter(types))] if types else "float32"


def load(
    path: str | Path,
    device: torch.device | str | None = None,
    *,
    model: VAE | None = None,
    trust: Iterable[str] = (),
) -> VAE:
    """A model from an artifact folder, or from a run folder, whose best model it takes; in evaluation mode.

    An artifact that a training run replaces meanwhile is read again, so that all of it is of one moment.

    Args:
        path: of the folder.
        device: of the model; without it the CPU, or where the given model is.
        model: takes the weights and is returned; needed for the artifact of a model that was made of modules, whose
            code no artifact names.
        trust: packages outside convae whose layers and other pieces the artifact may use: importing them runs their
            code.

    Raises:
        ArtifactError: there is no artifact, or it is damaged, or of a later format.
        TrustError: it needs code of a package that is not trusted.
    """
    path = local_path(path)
    with trusted_packages(trust):
        for _ in range(_TRIES):
            before = _identity(path)
            try:
                return _load(find(path), device, model)
            except ConvaeError:
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


def _load(folder: Path, device: torch.device | str | None, given: VAE | None) -> VAE:
    """The model of an artifact folder."""
    stored, weights = read_config(folder), folder / WEIGHTS
    # Opened at once: a model that replaces this one does not change what was opened.
    with open_tensors(weights, stored.sha256) as file:
        model = _without_weights(stored, folder / CONFIG) if given is None else given
        model.to(_PRECISIONS[stored.dtype])
        expected = model.state_dict()
        names = tensor_names(stored.sha256, expected) if stored.format == 1 else {name: name for name in stored.sha256}
        if missing := expected.keys() - set(names.values()):
            raise ArtifactError(f"{weights}: tensor {short_repr(min(missing))} is missing")
        if set(names.values()) - expected.keys():
            raise ArtifactError(f"{weights}: holds tensors that the model does not have")
        wanted = {name: expected[own] for name, own in names.items()}
        stored_tensors = read_checked_tensors(file, weights, stored.sha256, wanted)
        tensors = {own: stored_tensors[name] for name, own in names.items()}
    require_finite(tensors, str(weights))
    model.load_state_dict(tensors, assign=given is None)
    model.provenance = stored.provenance
    if given is not None:
        return model.eval() if device is None else model.to(device).eval()
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return model.to(device or "cpu").eval()


def _without_weights(stored: Stored, config: Path) -> VAE:
    """The model that an artifact describes, on the meta device.

    Raises:
        ArtifactError: it describes none.
        TrustError: it needs code of a package that is not trusted.
    """
    if stored.model is None:
        parts = ", ".join(f"{part} {name}" for part, name in (stored.modules or {}).items())
        raise ArtifactError(
            f"{config}: holds the weights of a model that was made of modules ({one_line(parts)}): give "
            "convae.load(path, model=...) the model that they belong to"
        )
    try:
        with untrusted_names():
            return construct(stored.model)
    except TrustError as error:
        raise TrustError(f"{config}: {error}") from error
    except (ConfigError, ShapeError) as error:
        raise ArtifactError(f"{config}: describes no model that this version can build ({one_line(error)})") from error


def read_description(path: str | Path) -> dict[str, Any]:
    """The description of the model in an artifact or of a run's best model, for a recipe.

    Raises:
        ArtifactError: there is no artifact, or its description is damaged or of a later format.
        TrustError: it needs code of a package that is not trusted.
    """
    stored = read_config(path)
    _without_weights(stored, find(Path(path)) / CONFIG)  # in a recipe its names are as good as the user's own
    assert stored.model is not None  # or there were no such model
    return stored.model.model_dump(mode="json")


def read_config(path: str | Path) -> Stored:
    """The description and provenance of an artifact or a run's best model, without its weights.

    Raises:
        ArtifactError: there is no artifact, or its description is damaged or of a later format.
    """
    config = find(Path(path)) / CONFIG
    try:
        content = read_checked_json(config, FORMAT)
        if content["format"] == 1:
            content = config_of_format_1(content)
        return parse(Stored, content, "its content")
    except ConfigError as error:
        raise ArtifactError(f"{config}: describes no model that this version can build ({one_line(error)})") from error


def find(path: Path) -> Path:
    """The artifact folder at `path`: itself, or the `model` folder of the run that it is.

    Raises:
        ArtifactError: there is none.
    """
    for folder in (recover_folder(path), recover_folder(path / "model")):
        if (folder / CONFIG).is_file():
            return folder
    missing = "no such folder" if not path.exists() else f"holds no {CONFIG}, neither itself nor in model/"
    raise ArtifactError(f"{path}: {missing}, so no model can be loaded from it")


def fingerprint(model: VAE) -> str:
    """SHA-256 (hex) of a model's description and weights: what two models share that compute the same.

    The name and where a model came from play no part.
    """
    described = model.spec.model_dump(mode="json", exclude={"name"}) if model.is_described else _describe(model)
    weights = {name: digest(tensor) for name, tensor in model.state_dict().items()}
    return hashlib.sha256(json.dumps([described, weights], sort_keys=True).encode()).hexdigest()
