"""Checkpoints of the autoencoders of diffusers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from convae.core.errors import ArtifactError, ConfigError, ConvaeError
from convae.core.names import shape_text, unknown_message
from convae.core.types import Shape
from convae.describe import resolve
from convae.interop.base import ImportedModel, load_weights, require_known_tensors
from convae.interop.structures import STRUCTURES
from convae.interop.structures._tensor_names import current_names
from convae.interop.structures.base import Renaming, Structure
from convae.model.construct import construct
from convae.model.provenance import Provenance
from convae.model.weights import State

NAME = "diffusers"
VARIANCE, COUNTER = "running_var", "num_batches_tracked"
"""Tensors of batch norm; the second is not imported."""


def diffusers(state: State, config: Mapping[str, Any] | None = None, size: Shape | None = None) -> ImportedModel:
    """Imports AutoencoderKL, AutoencoderKLFlux2, AutoencoderTiny, AutoencoderDC or VQModel of diffusers.

    Weights of AutoencoderKL and VQModel may have the tensor names of latent diffusion, and need no configuration, which
    then follows from the shapes.

    Args:
        state: tensors by name.
        config: content of `config.json`; None for a single file without one.
        size: image sizes; by default those of the configuration.

    Raises:
        ArtifactError: the tensors do not match the configuration.
        ConfigError: unknown class, or invalid keys or values of the configuration.
    """
    state = current_names(state)
    structure = _of_state(state) if config is None else _of_config(config)
    channels, *sizes = structure.input
    spec = {**structure.describe((channels, *(size or sizes))), "name": NAME}
    try:
        model = construct(resolve(spec))
    except ConvaeError as error:
        raise ConfigError(f"invalid configuration: {error}") from error
    if model.size_step is None:
        raise ConfigError(f"size: expected a multiple of the total stride, got {shape_text(size or sizes)}")
    renamings = list(structure.renamings(model))
    where = structure.class_name
    used = [name for each in renamings for name in each.sources]
    counters = [f"{name.removesuffix(VARIANCE)}{COUNTER}" for name in used if name.endswith(VARIANCE)]
    require_known_tensors(state, [*used, *counters, *structure.ignored_tensors()], where)
    tensors = {each.name: _joined(each, state, where) for each in renamings}
    structure.complete(tensors)
    imported = load_weights(model, tensors, where)
    kept = {key: value for key, value in structure.published().items() if key in structure.settings}
    imported.provenance = Provenance(latent_scale=structure.latent_scale(state), published=kept)
    dtypes = {str(tensor.dtype).removeprefix("torch.") for tensor in state.values() if tensor.is_floating_point()}
    converted = sorted(dtypes - {"float32"})
    notes = [f"converted {', '.join(converted)} weights to float32"] if converted else []
    return ImportedModel(imported, [*structure.notes, *notes])


def _of_config(config: Mapping[str, Any]) -> Structure:
    """The structure of a configuration."""
    name = config.get("_class_name")
    for known in STRUCTURES.names():
        structure: type[Structure] = STRUCTURES.get(known)
        if structure.class_name == name:
            return structure.read(config)
    classes = [STRUCTURES.get(known).class_name for known in STRUCTURES.names()]
    raise ConfigError(f"config.json: {unknown_message('class', str(name), classes)}")


def _of_state(state: State) -> Structure:
    """The structure of weights without a configuration, by the shapes of tensors."""
    for known in STRUCTURES.names():
        found: Structure | None = STRUCTURES.get(known).of_state(state)
        if found is not None:
            return found
    raise ArtifactError(
        "not the weights of AutoencoderKL or VQModel. For other classes, put config.json next to the file"
    )


def _joined(renaming: Renaming, state: State, where: str) -> torch.Tensor:
    """The value of a parameter, from its published tensors."""
    for name in renaming.sources:
        if name not in state:
            raise ArtifactError(f"not the weights of {where}: tensor '{name}' is missing")
    parts = [state[name] for name in renaming.sources]
    if len(parts) == 1 and not renaming.is_linear:
        return parts[0]
    if any(part.ndim == 0 or part.shape[1:] != parts[0].shape[1:] for part in parts):
        raise ArtifactError(f"not the weights of {where}: {' and '.join(renaming.sources)} have different shapes")
    joined = torch.cat(parts)
    return joined[..., None, None] if renaming.is_linear and joined.ndim == 2 else joined
