"""What every importer shares: checking the tensors of a foreign file, and filling a model with them."""

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
class Imported:
    """What came of a foreign checkpoint.

    Attributes:
        model: in evaluation mode.
        notes: what a person should know, a sentence each, such as tensors that were left out.
    """

    model: VAE
    notes: list[str]


def unbounded(latent: int) -> dict[str, Any]:
    """The bottleneck of weights that were trained without a bound on the log-variance."""
    return {"gaussian": {"latent": latent, "max_logvar": MAX_LOGVAR}}


def filled(spec: Mapping[str, Any], names: Mapping[str, Tensor], name: str) -> VAE:
    """A model of a description with these tensors under its own names, in evaluation mode.

    Raises:
        ArtifactError: a tensor does not have the described shape, or is not finite.
    """
    model = construct(resolve(spec))
    for key, wanted in model.state_dict().items():
        if key not in names or names[key].shape != wanted.shape:
            got = shape_text(names[key].shape) if key in names else "nothing"
            raise ArtifactError(f"not the weights of {name}: {key} needs {shape_text(wanted.shape)}, got {got}")
    kinds = {key: tensor.dtype for key, tensor in names.items() if not tensor.dtype.is_floating_point}
    for key, kind in kinds.items():
        raise ArtifactError(f"not the weights of {name}: {key} needs floats, got {kind}")
    tensors = {key: tensor.detach().clone().float() for key, tensor in names.items()}
    require_finite(tensors, f"the weights of {name}")
    model.load_state_dict(tensors, assign=True)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return model.eval()


def needed(state: State, axes: Mapping[str, int], name: str) -> None:
    """Checks that a state has tensors of these names, each over so many axes and not empty.

    Raises:
        ArtifactError: one is missing or of another kind.
    """
    for key, number in axes.items():
        if key not in state:
            raise ArtifactError(
                f"not the weights of {name}: tensor '{key}' is missing, found {short_repr(sorted(state))}"
            )
        if state[key].ndim != number or not state[key].numel():
            got = shape_text(state[key].shape) or "a single number"
            raise ArtifactError(f"not the weights of {name}: {key} needs {number} axes, got {got}")


def unknown_left(state: State, used: Iterable[str], name: str) -> None:
    """Checks that every tensor of a state is used or known to be of no use.

    Raises:
        ArtifactError: one is not.
    """
    left = sorted(set(state) - set(used))
    if left:
        raise ArtifactError(f"not the weights of {name}: it has no tensor '{left[0]}'")


def side_of(positions: int, name: str) -> int:
    """The side of a square map of so many positions.

    Raises:
        ArtifactError: it is not square.
    """
    side = math.isqrt(positions)
    if side * side != positions or not side:
        raise ArtifactError(f"not the weights of {name}: {positions} positions make no square map")
    return side
