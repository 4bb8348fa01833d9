"""Files of weights that others made: their tensors, read without running anything in them."""

from __future__ import annotations

import hashlib
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from convae.core.errors import ArtifactError
from convae.core.names import shape_text, shown

State = dict[str, Tensor]


def read_state(path: Path) -> State:
    """The tensors of a PyTorch or safetensors file; nothing in it is run.

    Raises:
        ArtifactError: the file is missing or damaged, needs code to be read, or holds something other than tensors.
    """
    try:
        if path.suffix == ".safetensors":
            found: Any = load_file(path)
        else:
            with warnings.catch_warnings():
                # It warns of pickles of unusual kinds, and then refuses them or reads tensors all the same.
                warnings.simplefilter("ignore")
                found = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror or error})") from error
    except pickle.UnpicklingError as error:
        raise ArtifactError(
            f"{path}: is no file of plain tensors; it is damaged, or reading it would run code, which is never done"
        ) from error
    except Exception as error:
        # There is no end to what a damaged pickle makes its reader raise.
        raise ArtifactError(f"{path}: damaged or not a file of weights") from error
    if isinstance(found, Mapping) and isinstance(found.get("state_dict"), Mapping):
        found = found["state_dict"]
    if not isinstance(found, Mapping) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise ArtifactError(f"{path}: holds {shown(type(found).__name__)} and not a dictionary of tensors")
    return {str(name): tensor for name, tensor in found.items()}


def sha256_of(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes.

    Raises:
        ArtifactError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror or error})") from error


def fill(network: torch.nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Gives a network, which may be on the meta device, these tensors; it is frozen and in evaluation mode then.

    The counters of batches that batch norms keep are of no use here and may be missing.

    Args:
        network: whose tensors they are.
        state: tensors under the network's own names.
        what: the file and what it should hold, for messages.

    Raises:
        ArtifactError: a tensor is missing, of another shape, or unknown to the network.
    """
    wanted = {name: tensor for name, tensor in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    given = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    for name, tensor in wanted.items():
        if name not in given or given[name].shape != tensor.shape:
            got = shape_text(given[name].shape) if name in given else "nothing"
            raise ArtifactError(f"{what}: tensor '{name}' needs {shape_text(tensor.shape)}, got {got}")
    if unknown := sorted(set(given) - set(wanted)):
        raise ArtifactError(f"{what}: there is no tensor '{unknown[0]}' in it")
    counters = {
        name: torch.zeros((), dtype=torch.long) for name in network.state_dict() if name.endswith("num_batches_tracked")
    }
    network.load_state_dict({**{name: tensor.float() for name, tensor in given.items()}, **counters}, assign=True)
    network.requires_grad_(False).eval()
