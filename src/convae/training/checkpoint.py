"""Checkpoints: all that a run needs to go on as if it had never stopped.

    checkpoints/step-00001200/
      state.json              how far the run is, figures of the running epoch, a SHA-256 of each tensor
      tensors.safetensors     model and optimiser

A checkpoint appears whole or not at all. Generators have no state to save, since all randomness is counted.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from convae.core.errors import ArtifactError
from convae.core.files import new_folder, write_bytes, write_json
from convae.model.artifact import digest, read_tensors

STATE = "state.json"
TENSORS = "tensors.safetensors"


@dataclass
class TrainingState:
    """How far a run is, beside its tensors.

    Attributes:
        step: steps done.
        log_bytes: length of the log of figures at this step; what is beyond it was written by a run that was lost.
        sums: running sums of the training figures since the last row of the log.
        summed: steps in those sums.
        best: the lowest validation total so far, nats per image.
        best_step: the step at which it was measured.
    """

    step: int = 0
    log_bytes: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    summed: int = 0
    best: float | None = None
    best_step: int | None = None


def save_checkpoint(
    folder: Path, state: TrainingState, model: nn.Module, optimizer: torch.optim.Optimizer, keep: int
) -> Path:
    """Writes the checkpoint of a step and removes all but the `keep` newest.

    Raises:
        OutputError: it cannot be written; the older ones are still there.
    """
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for parameter, values in optimizer.state.items():
        for key, value in values.items():
            tensors[f"optimizer.{names[id(parameter)]}.{key}"] = torch.as_tensor(value)
    stored = {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}
    path = folder / f"step-{state.step:08d}"
    with new_folder(path) as place:
        write_bytes(place / TENSORS, to_bytes(stored))
        sha256 = {name: digest(tensor) for name, tensor in stored.items()}
        write_json(place / STATE, {"format": 1, "state": asdict(state), "sha256": sha256})
    for old in steps(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return path


def steps(folder: Path) -> list[Path]:
    """The complete checkpoints in a folder, oldest first."""
    return sorted(path for path in folder.glob("step-*") if (path / STATE).is_file() and (path / TENSORS).is_file())


def load_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> TrainingState:
    """Puts a checkpoint's values into the model and the optimiser.

    Raises:
        ArtifactError: the checkpoint is damaged, or of another model.
    """
    try:
        written: dict[str, Any] = json.loads((path / STATE).read_bytes())
        state = TrainingState(**written["state"])
        sha256 = dict(written["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path / STATE}: damaged or unreadable ({error})") from error
    tensors = read_tensors(path / TENSORS, sha256)
    own = {name.removeprefix("model."): tensor for name, tensor in tensors.items() if name.startswith("model.")}
    try:
        model.load_state_dict(own)
    except RuntimeError as error:
        raise ArtifactError(f"{path}: is of another model ({str(error).splitlines()[-1].strip()})") from error
    for name, parameter in model.named_parameters():
        prefix = f"optimizer.{name}."
        values: dict[str, Tensor] = {}
        for key, tensor in tensors.items():
            if key.startswith(prefix) and "." not in key.removeprefix(prefix):
                like_parameter = tensor.ndim == parameter.ndim and tensor.ndim > 0
                layout = torch.preserve_format if not like_parameter else _layout(parameter)
                values[key.removeprefix(prefix)] = tensor.to(parameter.device).contiguous(memory_format=layout)
        if values:
            optimizer.state[parameter] = values
    return state


def _layout(parameter: Tensor) -> torch.memory_format:
    """The memory layout of a parameter, which its optimiser state shares."""
    if parameter.ndim == 4 and not parameter.is_contiguous():
        return torch.channels_last
    if parameter.ndim == 5 and not parameter.is_contiguous():
        return torch.channels_last_3d
    return torch.contiguous_format
