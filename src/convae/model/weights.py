"""Reading weight files of other projects, without executing code."""

from __future__ import annotations

import errno
import hashlib
import pickle
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from convae.core.errors import ArtifactError, ConfigError
from convae.core.files import open_regular, utf8_path
from convae.core.names import shape_text, short_repr

State = dict[str, Tensor]


def read_state(path: Path) -> State:
    """Reads the state dict of a PyTorch or safetensors file; see `read_weights`."""
    return read_weights(path)[0]


def read_weights(path: Path, key: str | None = None) -> tuple[State, list[str]]:
    """Reads the state dict of a PyTorch or safetensors file; returns it with notes on what was chosen.

    A state dict inside a checkpoint is found under the usual keys, and prefixes of wrappers (`module.` of DataParallel,
    `_orig_mod.` of torch.compile) are removed. No code in the file is executed.

    Args:
        path: the file.
        key: key of the state dict in a checkpoint that holds several; dots separate levels.

    Raises:
        ArtifactError: the file is missing or damaged, needs code execution, or holds anything but tensors.
        ConfigError: there are several state dicts, or none under `key`.
    """
    found = _read(path)
    states = dict(_states(found, ""))
    if not states:
        raise ArtifactError(
            f"{path}: holds {short_repr(type(found).__name__)} and not a dictionary of tensors. {_HOW_TO}"
        )
    usual = [name for name in states if name.rpartition(".")[2] in _KEYS] or list(states)
    if key is None and len(usual) > 1:
        raise ConfigError(f"{path}: holds several models: {_choices(states)}")
    chosen = usual[0] if key is None else key
    if chosen not in states:
        raise ConfigError(f"{path}: holds no tensors under '{key}': {_choices(states)}")
    state, prefix = _without_wrappers(states[chosen])
    notes = [f"the tensors under '{chosen}' were taken"] if chosen else []
    return state, notes + ([f"'{prefix}' was taken off the names of all tensors"] if prefix else [])


_EMA = ("ema", "model_ema", "ema_state_dict")
_KEYS = ("state_dict", "model_state_dict", "model", "net", "network", "vae", "weights", "params", "module", *_EMA)
"""Keys under which training scripts store a model's state dict."""
_WRAPPERS = ("module.", "_orig_mod.", "model.", "net.", "network.", "vae.")
"""Prefixes of all names in a model that was saved inside a wrapper."""
_DEPTH = 3
_LARGEST_HEADER = 16 << 20
"""Size limit of the header of a safetensors file, in bytes: enough for 100,000 tensors."""
_HOW_TO = "Save the weights alone: torch.save(model.state_dict(), 'weights.pth')"


def _read(path: Path) -> Any:
    """The content of a weight file: tensors, containers, numbers and strings."""
    try:
        with open_regular(path) as file:
            header = int.from_bytes(file.read(8), "little")
            size = file.seek(0, 2)
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror})") from error
    if not size:
        raise ArtifactError(f"{path}: is empty")
    if path.suffix == ".safetensors" and header > min(size, _LARGEST_HEADER):
        raise ArtifactError(f"{path}: damaged: its header states {header:,} bytes")
    try:
        with utf8_path(path) as name, warnings.catch_warnings():
            if path.suffix == ".safetensors":
                return load_file(name)
            # It warns of pickles of unusual kinds, and then refuses them or reads tensors all the same.
            warnings.simplefilter("ignore")
            return torch.load(name, map_location="cpu", weights_only=True)
    except OSError as error:
        if error.errno == errno.EINVAL:  # what torch's reader says of a file that ends too soon
            raise ArtifactError(f"{path}: is truncated or damaged: copy or download it again") from error
        raise ArtifactError(f"{path}: cannot be read ({error.strerror or error})") from error
    except pickle.UnpicklingError as error:
        wanted = re.search(r"global: GLOBAL ([\w.]+)", str(error))
        what = f"holds {wanted[1]}" if wanted else "is damaged or holds more than tensors"
        raise ArtifactError(f"{path}: {what}: reading it would run code, which is never done. {_HOW_TO}") from error
    except Exception as error:
        # A damaged pickle can raise any exception.
        raise ArtifactError(f"{path}: truncated, damaged or no file of weights: download it again") from error


def _states(found: Any, path: str, depth: int = 0) -> Iterator[tuple[str, State]]:
    """The state dicts in a file, with the dotted path of keys to each."""
    if not isinstance(found, Mapping) or not found or depth > _DEPTH:
        return
    if all(isinstance(value, Tensor) for value in found.values()):
        yield path, {str(name): tensor for name, tensor in found.items()}
        return
    for key, value in found.items():
        if isinstance(key, str) and "optim" not in key.lower():
            yield from _states(value, f"{path}.{key}" if path else key, depth + 1)


def _without_wrappers(state: State) -> tuple[State, str]:
    """Removes wrapper prefixes that all names share; returns the tensors and the prefix."""
    prefix = ""
    while own := next((own for own in _WRAPPERS if all(name.startswith(prefix + own) for name in state)), None):
        prefix += own
    return {name.removeprefix(prefix): tensor for name, tensor in state.items()}, prefix


def _choices(states: Mapping[str, State]) -> str:
    """The keys of several state dicts, for messages."""
    named = ", ".join(f"'{name}' ({len(state)} tensors)" for name, state in states.items())
    return f"choose one with --key (start.key in a recipe): {named}" if states else "it holds no dictionary of tensors"


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
    """Loads tensors into a network, which may be on the meta device; freezes it and puts it into evaluation mode.

    `num_batches_tracked` of batch norms may be missing.

    Args:
        network: the network.
        state: its tensors by name.
        what: the file and its expected content, for messages.

    Raises:
        ArtifactError: a tensor is missing, of another shape, or unknown to the network.
    """
    wanted = {name: tensor for name, tensor in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    given = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    for name, tensor in wanted.items():
        if name not in given or given[name].shape != tensor.shape:
            got = shape_text(given[name].shape) if name in given else "nothing"
            raise ArtifactError(f"{what}: tensor '{name}': expected {shape_text(tensor.shape)}, got {got}")
    if unknown := sorted(set(given) - set(wanted)):
        raise ArtifactError(f"{what}: unknown tensor '{unknown[0]}'")
    counters = {
        name: torch.zeros((), dtype=torch.long) for name in network.state_dict() if name.endswith("num_batches_tracked")
    }
    network.load_state_dict({**{name: tensor.float() for name, tensor in given.items()}, **counters}, assign=True)
    network.requires_grad_(False).eval()
