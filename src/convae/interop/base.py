"""Shared code of importers: validation of foreign tensors, and loading them into a model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from convae.core.checked_files import require_finite
from convae.core.errors import ArtifactError
from convae.core.names import shape_text, short_repr
from convae.describe import resolve
from convae.model.bottlenecks.gaussian import MAX_LOGVAR
from convae.model.construct import construct
from convae.model.vae import VAE
from convae.model.weights import State


@dataclass(frozen=True)
class ImportedModel:
    """A model with the weights of a foreign checkpoint.

    Attributes:
        model: in evaluation mode.
        notes: messages for the user, such as about tensors that were not loaded.
    """

    model: VAE
    notes: list[str]


def unbounded_gaussian(latent: int) -> dict[str, Any]:
    """The description of a Gaussian bottleneck for weights that were trained without a bound on the log-variance.

    Args:
        latent: number of latent dimensions, or of channels of a latent map.
    """
    return {"gaussian": {"latent": latent, "max_logvar": MAX_LOGVAR}}


def model_from_weights(spec: Mapping[str, Any], tensors: Mapping[str, Tensor], importer: str) -> VAE:
    """Builds a model and loads its weights, as float32; returns it in evaluation mode.

    Args:
        spec: description of the model.
        tensors: its weights by their name in the model; they are copied.
        importer: name of the importer, for messages.

    Raises:
        ArtifactError: a tensor is missing, has another shape or integers, or is not finite.
    """
    return load_weights(construct(resolve(spec)), tensors, importer)


def load_weights(model: VAE, tensors: Mapping[str, Tensor], importer: str) -> VAE:
    """Loads weights into a model on the meta device; see `model_from_weights` for arguments and errors."""
    for key, expected in model.state_dict().items():
        if key not in tensors or tensors[key].shape != expected.shape:
            got = shape_text(tensors[key].shape) if key in tensors else "nothing"
            raise ArtifactError(
                f"not the weights of {importer}: {key}: expected shape {shape_text(expected.shape)}, got {got}"
            )
    for key, tensor in tensors.items():
        if not tensor.dtype.is_floating_point:
            raise ArtifactError(f"not the weights of {importer}: {key}: expected floats, got {tensor.dtype}")
    copies = {key: tensor.detach().clone().float() for key, tensor in tensors.items()}
    require_finite(copies, f"weights of {importer}")
    model.load_state_dict(copies, assign=True)
    return model.requires_grad_(True).eval()


def require_tensors(state: State, ranks: Mapping[str, int], importer: str) -> None:
    """Checks that a state dictionary contains tensors of given names and ranks, none of them empty.

    Args:
        state: tensors of the foreign checkpoint.
        ranks: number of axes of each required tensor.
        importer: name of the importer, for messages.

    Raises:
        ArtifactError: a tensor is missing, empty, or has another number of axes.
    """
    for key, rank in ranks.items():
        if key not in state:
            raise ArtifactError(
                f"not the weights of {importer}: tensor '{key}' is missing, found {short_repr(sorted(state))}"
            )
        if state[key].ndim != rank or not state[key].numel():
            got = f"shape {shape_text(state[key].shape)}" if state[key].ndim else "a scalar"
            raise ArtifactError(f"not the weights of {importer}: {key}: expected {rank} axes, got {got}")


def require_known_tensors(state: State, known: Iterable[str], importer: str) -> None:
    """Checks that a state dictionary contains no other tensors than the known ones.

    Raises:
        ArtifactError: it contains another tensor.
    """
    unknown = sorted(set(state) - set(known))
    if unknown:
        raise ArtifactError(f"not the weights of {importer}: unknown tensor '{unknown[0]}'")


def square_side(positions: int, importer: str) -> int:
    """The side of a square feature map with this number of positions.

    Raises:
        ArtifactError: it is not a square number.
    """
    side = math.isqrt(positions)
    if side * side != positions or not side:
        raise ArtifactError(f"not the weights of {importer}: expected a square feature map, got {positions} positions")
    return side
